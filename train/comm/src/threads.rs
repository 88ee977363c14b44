//! Ranks in one process: their communication threads share a table of what each has posted.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::transport::{Header, Transport, Waiting};
use crate::{Failure, Group, Layout};

/// One rank's access to the table.
pub(crate) struct Threads {
    layout: Layout,
    table: Arc<Table>,
    /// Steps so far in each group; all its ranks count alike.
    steps: [u64; 3],
    finished: bool,
}

#[derive(Default)]
struct Table {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first failure of any rank.
    failure: Option<Failure>,
    /// By kind of group, first rank of the group, and step.
    steps: HashMap<(Group, usize, u64), Step>,
}

/// What the ranks of a group post in one step.
struct Step {
    posted: Vec<Option<Arc<[u8]>>>,
    /// Ranks that have read all of it.
    readers: usize,
}

impl Threads {
    /// All ranks of a group of `size`, with `per_machine` ranks a machine.
    pub fn all(size: usize, per_machine: usize) -> Vec<Self> {
        let table = Arc::new(Table::default());
        let rank = |rank| Self {
            layout: Layout::contiguous(rank, size, per_machine),
            table: table.clone(),
            steps: [0; 3],
            finished: false,
        };
        (0..size).map(rank).collect()
    }

    /// Posts bytes for the group's next step. Returns the step's key.
    fn post(&mut self, group: Group, bytes: &[u8]) -> (Group, usize, u64) {
        self.steps[group as usize] += 1;
        let ranks = self.layout.members(group);
        let key = (group, ranks[0], self.steps[group as usize]);
        let mut state = self.table.state.lock();
        let step =
            state.steps.entry(key).or_insert_with(|| Step { posted: vec![None; ranks.len()], readers: 0 });
        step.posted[self.layout.rank(group)] = Some(bytes.into());
        self.table.changed.notify_all();
        key
    }

    /// What all ranks posted in a step.
    fn read(&self, waiting: &Waiting, key: (Group, usize, u64)) -> Result<Vec<Arc<[u8]>>, Failure> {
        let mut state = self.table.state.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            let step = state.steps.get_mut(&key).expect("this rank posted to the step and has not read it");
            if let Some(all) = step.posted.iter().cloned().collect::<Option<Vec<_>>>() {
                step.readers += 1;
                if step.readers == all.len() {
                    state.steps.remove(&key);
                }
                return Ok(all);
            }
            if waiting.is_over() {
                let ranks = self.layout.members(waiting.group()).iter().zip(&step.posted);
                let missing = ranks.filter(|(_, posted)| posted.is_none()).map(|(rank, _)| *rank);
                return Err(waiting.late(&missing.collect::<Vec<_>>()));
            }
            self.table.changed.wait_for(&mut state, waiting.left());
        }
    }

    fn swap(&mut self, waiting: &Waiting, bytes: &[u8]) -> Result<Vec<Arc<[u8]>>, Failure> {
        let key = self.post(waiting.group(), bytes);
        self.read(waiting, key)
    }

    fn headers(all: Vec<Arc<[u8]>>) -> Vec<Header> {
        let header =
            |bytes: Arc<[u8]>| bytes.first_chunk().and_then(Header::from_bytes).expect("a posted header");
        all.into_iter().map(header).collect()
    }
}

impl Transport for Threads {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn exchange(&mut self, waiting: &Waiting, own: Header) -> Result<Vec<Header>, Failure> {
        Ok(Self::headers(self.swap(waiting, &own.to_bytes())?))
    }

    fn all_to_all(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        let own = self.layout.rank(waiting.group());
        let all = self.swap(waiting, sent)?;
        let part = received.len() / all.len();
        for (received, sent) in received.chunks_exact_mut(part).zip(all) {
            received.copy_from_slice(&sent[own * part..][..part]);
        }
        Ok(())
    }

    fn all_gather(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        let all = self.swap(waiting, sent)?;
        for (received, sent) in received.chunks_exact_mut(sent.len()).zip(all) {
            received.copy_from_slice(&sent);
        }
        Ok(())
    }

    fn broadcast(&mut self, waiting: &Waiting, root: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        let own = self.layout.rank(waiting.group());
        let all = self.swap(waiting, if own == root { &*bytes } else { &[] })?;
        bytes.copy_from_slice(&all[root]);
        Ok(())
    }

    fn finish(&mut self, waiting: &[Waiting; 3], own: Header) -> Result<[Vec<Header>; 3], Failure> {
        let keys = Group::ALL.map(|group| self.post(group, &own.to_bytes()));
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for ((all, waiting), key) in all.iter_mut().zip(waiting).zip(keys) {
            *all = Self::headers(self.read(waiting, key)?);
        }
        self.finished = true;
        Ok(all)
    }

    fn abandon(&mut self, failure: Failure) -> Failure {
        let mut state = self.table.state.lock();
        let first = state.failure.get_or_insert(failure).clone();
        self.table.changed.notify_all();
        self.finished = true;
        first
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.finished {
            self.abandon(Failure::Thread { rank: self.layout.rank(Group::World) });
        }
    }
}
