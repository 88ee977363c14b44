//! The communication thread of a rank: runs collectives, built of what the transport has.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::traffic::Counters;
use crate::transport::{Call, Header, Transport, Waiting};
use crate::{Failure, Group, Layout, Wire};

/// Something to do on the communication thread.
pub(crate) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The share of `length` values that rank `rank` of `size` gets of a reduce-scatter: all have the same number, but the last ones may
/// have fewer, or none.
pub fn share(length: usize, rank: usize, size: usize) -> Range<usize> {
    let part = length.div_ceil(size);
    (rank * part).min(length)..((rank + 1) * part).min(length)
}

/// A rank's transport and what surrounds it.
pub(crate) struct Worker {
    transport: Box<dyn Transport>,
    counters: Arc<Counters>,
    timeout: Duration,
    /// Most bytes that the transport gets at once.
    most: usize,
    /// Collectives so far in each group.
    numbers: [u64; 3],
    failure: Option<Failure>,
    finished: bool,
}

impl Worker {
    pub fn new(
        transport: Box<dyn Transport>,
        counters: Arc<Counters>,
        timeout: Duration,
        most: usize,
    ) -> Self {
        Self { transport, counters, timeout, most, numbers: [0; 3], failure: None, finished: false }
    }

    pub fn layout(&self) -> &Layout {
        self.transport.layout()
    }

    /// Does jobs until there are no more.
    pub fn serve(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = match self.transport.idle() {
                Some(time) => jobs.recv_timeout(time),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(job) => job(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Runs a collective. After the first failure nothing runs.
    pub fn run<T>(
        &mut self,
        group: Group,
        collective: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let begun = Instant::now();
        let result = collective(self);
        self.counters.call(group, begun.elapsed());
        result.map_err(|failure| self.abandon(failure))
    }

    /// Tells all ranks of a failure, unless there was one, or all are done.
    pub fn abandon(&mut self, failure: Failure) -> Failure {
        if !self.finished && self.failure.is_none() {
            self.failure = Some(self.transport.abandon(failure.clone()));
        }
        self.failure.clone().unwrap_or(failure)
    }

    fn size(&self, group: Group) -> usize {
        self.transport.layout().size(group)
    }

    fn rank(&self) -> usize {
        self.transport.layout().rank(Group::World)
    }

    fn waiting(&self, group: Group, call: Header) -> Waiting {
        Waiting { rank: self.rank(), group, call, begun: Instant::now(), timeout: self.timeout }
    }

    /// Makes sure that all ranks of the group do the same. Returns what they announced.
    fn agree(
        &mut self,
        group: Group,
        call: Call,
        wire: Wire,
        root: usize,
        length: usize,
    ) -> Result<(Waiting, Vec<Header>), Failure> {
        self.numbers[group as usize] += 1;
        let number = self.numbers[group as usize];
        let own = Header { call, wire, root: root as u32, length: length as u64, number };
        let waiting = self.waiting(group, own);
        let all = if self.size(group) == 1 { vec![own] } else { self.transport.exchange(&waiting, own)? };
        self.compare(group, own, &all)?;
        // Data has as much time as headers had.
        Ok((self.waiting(group, own), all))
    }

    fn compare(&self, group: Group, own: Header, all: &[Header]) -> Result<(), Failure> {
        let other =
            all.iter().zip(self.transport.layout().members(group)).find(|(header, _)| !own.agrees(**header));
        match other {
            None => Ok(()),
            Some((header, other)) => Err(Failure::Mismatch {
                rank: self.rank(),
                call: own.to_string(),
                other: *other,
                other_call: header.to_string(),
                group,
            }),
        }
    }

    pub fn barrier(&mut self, group: Group) -> Result<(), Failure> {
        self.agree(group, Call::Barrier, Wire::F32, 0, 0).map(|_| ())
    }

    pub fn finish(&mut self) -> Result<(), Failure> {
        let own = Header { call: Call::Finish, wire: Wire::F32, root: 0, length: 0, number: 0 };
        let number = |group: Group| self.numbers[group as usize] + 1;
        let waiting = Group::ALL.map(|group| self.waiting(group, Header { number: number(group), ..own }));
        let all = self.transport.finish(&waiting, own)?;
        for (group, all) in Group::ALL.into_iter().zip(all) {
            self.compare(group, own, &all)?;
        }
        self.finished = true;
        Ok(())
    }

    pub fn broadcast(&mut self, group: Group, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let own = self.transport.layout().rank(group) == root;
        let (waiting, all) =
            self.agree(group, Call::Broadcast, Wire::F32, root, if own { bytes.len() } else { 0 })?;
        let mut bytes = if own { bytes } else { vec![0; all[root].length as usize] };
        if all.len() > 1 {
            for part in bytes.chunks_mut(self.most) {
                self.transport.broadcast(&waiting, root, part)?;
            }
            self.counters.sent(group, if own { (all.len() - 1) * bytes.len() } else { 0 });
        }
        Ok(bytes)
    }

    /// The bytes of all ranks, in order.
    pub fn all_gather(&mut self, group: Group, own: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let (waiting, all) = self.agree(group, Call::AllGather, Wire::F32, 0, own.len())?;
        if all.len() == 1 {
            return Ok(own);
        }
        let lengths: Vec<usize> = all.iter().map(|header| header.length as usize).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut own = own;
        own.resize(longest, 0);
        let mut gathered = self.gather(&waiting, &own)?;
        // Closes the gaps that padding left.
        let mut end = 0;
        for (rank, length) in lengths.into_iter().enumerate() {
            gathered.copy_within(rank * longest..rank * longest + length, end);
            end += length;
        }
        gathered.truncate(end);
        Ok(gathered)
    }

    /// Gathers the same number of bytes of each rank.
    fn gather(&mut self, waiting: &Waiting, own: &[u8]) -> Result<Vec<u8>, Failure> {
        let size = self.size(waiting.group());
        self.counters.sent(waiting.group(), (size - 1) * own.len());
        let mut gathered = vec![0; size * own.len()];
        let part = (self.most / size).max(1);
        if own.len() <= part {
            if !own.is_empty() {
                self.transport.all_gather(waiting, own, &mut gathered)?;
            }
            return Ok(gathered);
        }
        let mut buffer = vec![0; size * part];
        for (index, sent) in own.chunks(part).enumerate() {
            let buffer = &mut buffer[..size * sent.len()];
            self.transport.all_gather(waiting, sent, buffer)?;
            for (gathered, received) in
                gathered.chunks_exact_mut(own.len()).zip(buffer.chunks_exact(sent.len()))
            {
                gathered[index * part..][..sent.len()].copy_from_slice(received);
            }
        }
        Ok(gathered)
    }

    pub fn all_to_all(&mut self, group: Group, sent: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let (waiting, _) = self.agree(group, Call::AllToAll, Wire::F32, 0, sent.len())?;
        if self.size(group) == 1 {
            return Ok(sent);
        }
        self.swap(&waiting, &sent)
    }

    /// Sends each rank its part.
    fn swap(&mut self, waiting: &Waiting, sent: &[u8]) -> Result<Vec<u8>, Failure> {
        let size = self.size(waiting.group());
        let (length, part) = (sent.len() / size, (self.most / size).max(1));
        self.counters.sent(waiting.group(), (size - 1) * length);
        let mut received = vec![0; sent.len()];
        if length <= part {
            if length > 0 {
                self.transport.all_to_all(waiting, sent, &mut received)?;
            }
            return Ok(received);
        }
        let mut buffers = [vec![0; size * part], vec![0; size * part]];
        for begin in (0..length).step_by(part) {
            let count = part.min(length - begin);
            let [out, back] = buffers.each_mut().map(|buffer| &mut buffer[..size * count]);
            for (out, sent) in out.chunks_exact_mut(count).zip(sent.chunks_exact(length)) {
                out.copy_from_slice(&sent[begin..begin + count]);
            }
            self.transport.all_to_all(waiting, out, back)?;
            for (received, back) in received.chunks_exact_mut(length).zip(back.chunks_exact(count)) {
                received[begin..begin + count].copy_from_slice(back);
            }
        }
        Ok(received)
    }

    /// The sums of this rank's share, padding included.
    fn sums(&mut self, waiting: &Waiting, values: &[f32], wire: Wire) -> Result<Vec<f32>, Failure> {
        let size = self.size(waiting.group());
        let part = values.len().div_ceil(size);
        let sent = wire.encode(values, part * size);
        let received = if size == 1 { sent } else { self.swap(waiting, &sent)? };
        let mut sums = vec![0.0; part];
        for (rank, received) in received.chunks(part.max(1) * wire.bytes()).enumerate() {
            if rank == 0 {
                wire.decode(received, &mut sums);
            } else {
                wire.add(received, &mut sums);
            }
        }
        Ok(sums)
    }

    pub fn reduce_scatter(&mut self, group: Group, values: &[f32], wire: Wire) -> Result<Vec<f32>, Failure> {
        let (waiting, _) = self.agree(group, Call::ReduceScatter, wire, 0, values.len())?;
        let mut sums = self.sums(&waiting, values, wire)?;
        let layout = self.transport.layout();
        sums.truncate(share(values.len(), layout.rank(group), layout.size(group)).len());
        Ok(sums)
    }

    pub fn all_reduce(
        &mut self,
        group: Group,
        mut values: Vec<f32>,
        wire: Wire,
    ) -> Result<Vec<f32>, Failure> {
        let (waiting, all) = self.agree(group, Call::AllReduce, wire, 0, values.len())?;
        let sums = self.sums(&waiting, &values, wire)?;
        let own = wire.encode(&sums, sums.len());
        let gathered = if all.len() == 1 { own } else { self.gather(&waiting, &own)? };
        wire.decode(&gathered, &mut values);
        Ok(values)
    }

    /// Gathers values, which may differ in number.
    pub fn gather_values(&mut self, group: Group, own: &[f32], wire: Wire) -> Result<Vec<f32>, Failure> {
        let bytes = self.all_gather(group, wire.encode(own, own.len()))?;
        let mut values = vec![0.0; bytes.len() / wire.bytes()];
        wire.decode(&bytes, &mut values);
        Ok(values)
    }
}
