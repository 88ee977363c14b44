//! The ranks that train one network together (section 2.5, appendix E).
//!
//! Each rank computes gradients and metrics of its share of every batch; their sums over ranks are those of the batch. So the batch is
//! a setting of the run and the number of ranks is not: a run continues with any number that divides its batch.

use std::fmt::{Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use dalle_comm::{Communicator, Group, Wire};
use dalle_data::Share;
use dalle_shared::sha256_hex;

/// This process's place among the ranks of a training. Clones share one communicator.
#[derive(Clone, Default)]
pub struct Ranks(Option<Arc<Communicator>>);

impl Debug for Ranks {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.count())
    }
}

impl Ranks {
    /// The only rank.
    pub fn alone() -> Self {
        Self::default()
    }

    /// The rank of a communicator.
    pub fn new(communicator: Communicator) -> Self {
        Self(Some(Arc::new(communicator)))
    }

    /// Number of ranks.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |communicator| communicator.size(Group::World))
    }

    /// Number of ranks on each machine.
    pub fn per_machine(&self) -> usize {
        self.0.as_ref().map_or(1, |communicator| communicator.size(Group::Machine))
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |communicator| communicator.rank(Group::World))
    }

    /// Whether this rank writes and shows what all have in common.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The communicator, if there are other ranks.
    pub fn others(&self) -> Option<&Arc<Communicator>> {
        self.0.as_ref().filter(|_| self.count() > 1)
    }

    /// This rank's share of batches of `batch` examples.
    ///
    /// # Errors
    /// The ranks cannot have equal shares.
    pub fn share(&self, batch: usize) -> Result<Share> {
        let world = self.count();
        ensure!(
            batch.is_multiple_of(world),
            "--batch: expected a multiple of the number of ranks, {world}, got {batch}"
        );
        Ok(Share { batch, rank: self.rank(), world })
    }

    /// This rank's part of a batch, as a factor of a mean over the batch.
    pub fn part(&self) -> f64 {
        1.0 / self.count() as f64
    }

    /// The sums of values over ranks, the same bits on all of them.
    ///
    /// # Errors
    /// Communication failed.
    pub fn sum(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        match self.others() {
            Some(communicator) => Ok(communicator.all_reduce(Group::World, values, Wire::F32).wait()?),
            None => Ok(values),
        }
    }

    /// The sums of values over ranks, in f64.
    ///
    /// # Errors
    /// Communication failed.
    pub fn sum_exactly(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        if self.others().is_none() {
            return Ok(values);
        }
        let all = self.gather(values.iter().flat_map(|value| value.to_le_bytes()).collect())?;
        let mut sums = vec![0.0; values.len()];
        for bytes in &all {
            for (sum, value) in sums.iter_mut().zip(bytes.as_chunks().0) {
                *sum += f64::from_le_bytes(*value);
            }
        }
        Ok(sums)
    }

    /// This rank's share of `length` things, such as examples to validate on. The last ranks may have fewer, or none.
    pub fn range(&self, length: usize) -> Range<usize> {
        dalle_comm::share(length, self.rank(), self.count())
    }

    /// The bytes of each rank, in their order.
    ///
    /// # Errors
    /// Communication failed.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let Some(communicator) = self.others() else { return Ok(vec![own]) };
        let lengths = communicator.all_gather(Group::World, (own.len() as u64).to_le_bytes().to_vec());
        let all = communicator.all_gather(Group::World, own);
        let (lengths, all) = (lengths.wait()?, all.wait()?);
        let mut rest = all.as_slice();
        let bytes = lengths.as_chunks::<8>().0.iter().map(|length| {
            let (own, others) = rest.split_at(u64::from_le_bytes(*length) as usize);
            rest = others;
            own.to_vec()
        });
        Ok(bytes.collect())
    }

    /// What the first rank computes, on all ranks. Of the others `compute` is not called. If it fails, all ranks do.
    ///
    /// # Errors
    /// `compute` or communication failed.
    pub fn by_first(&self, compute: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let Some(communicator) = self.others() else { return compute() };
        let own = if self.is_first() { compute()? } else { Vec::new() };
        Ok(communicator.broadcast(Group::World, 0, own).wait()?)
    }

    /// What `compute` returns, called by the first rank before the others: it writes files that they read.
    ///
    /// # Errors
    /// `compute` or communication failed.
    pub fn after_first<T>(&self, compute: impl Fn() -> Result<T>) -> Result<T> {
        let mut first = None;
        self.by_first(|| {
            first = Some(compute()?);
            Ok(Vec::new())
        })?;
        first.map_or_else(compute, Ok)
    }

    /// Checks that all ranks agree on `what`, given as bytes.
    ///
    /// # Errors
    /// They do not, or communication failed.
    pub fn agree(&self, what: &str, bytes: &[u8]) -> Result<()> {
        if self.others().is_none() {
            return Ok(());
        }
        let all = self.gather(sha256_hex(bytes).into_bytes())?;
        if let Some(other) = all.iter().position(|hash| *hash != all[0]) {
            anyhow::bail!(
                "rank {other} has other {what} than rank 0; start all ranks with the same command, program and files"
            );
        }
        Ok(())
    }

    /// Ends communication together with the other ranks.
    ///
    /// # Errors
    /// Communication failed, or other ranks still communicate.
    pub fn finish(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |communicator| Ok(communicator.finish()?))
    }

    /// Ends the communication of all ranks with this rank's error.
    pub fn fail(&self, error: &anyhow::Error) {
        if let Some(communicator) = &self.0 {
            communicator.fail(format!("{error:#}"));
        }
    }
}

/// What each of `world` ranks of one machine computes, in threads of this process.
#[cfg(test)]
pub(crate) fn of_all_ranks<T: Send>(world: usize, compute: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let options = dalle_comm::Options { timeout: std::time::Duration::from_mins(1), ..Default::default() };
    let communicators = Communicator::threads(world, &options).unwrap();
    let compute = &compute;
    std::thread::scope(|scope| {
        let ranks: Vec<_> = communicators
            .into_iter()
            .map(|communicator| {
                scope.spawn(move || {
                    let ranks = Ranks::new(communicator);
                    let result = compute(ranks.clone());
                    ranks.finish().unwrap();
                    result
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
