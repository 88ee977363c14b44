//! Writes what each rank spent on the updates since the last log into the run folder: `ranks.jsonl`, one line of JSON per log.
//!
//! It is apart from the other metrics because times differ from run to run. A line has one value per rank, each a mean per update.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use dalle_comm::{Group, Traffic};
use serde::{Deserialize, Serialize};

use crate::ranks::Ranks;

/// Name of the file.
const RANKS: &str = "ranks.jsonl";

/// A mean update of one rank.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Spent {
    /// Seconds.
    seconds: f64,
    /// Seconds of them in which it waited for collectives.
    waiting: f64,
    /// Bytes sent to other ranks of the machine.
    machine: f64,
    /// Bytes sent to other machines.
    peers: f64,
    /// Bytes sent to all ranks: norms, metrics and signals.
    world: f64,
}

/// A line of the file.
#[derive(Serialize)]
pub(crate) struct RankLine {
    step: u64,
    seconds: Vec<f64>,
    seconds_waiting: Vec<f64>,
    bytes_in_machine: Vec<f64>,
    bytes_between_machines: Vec<f64>,
    bytes_to_all: Vec<f64>,
}

impl RankLine {
    /// Appends the line to the file in the folder `run`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, run: &Path) -> Result<()> {
        let path = run.join(RANKS);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(file.write_all(&[serde_json::to_vec(self)?, b"\n".to_vec()].concat())?)
    }
}

/// A rank's clock and counters at the last log.
pub(crate) struct RankLog {
    begun: Instant,
    traffic: [Traffic; 3],
    updates: u64,
}

impl RankLog {
    /// Starts to count.
    pub(crate) fn new(ranks: &Ranks) -> Self {
        Self { begun: Instant::now(), traffic: traffic(ranks), updates: 0 }
    }

    /// Counts an update.
    pub(crate) fn update(&mut self) {
        self.updates += 1;
    }

    /// What all ranks spent since the last call, on the first rank. Starts again. All ranks call it.
    ///
    /// # Errors
    /// Communication failed.
    pub(crate) fn line(&mut self, ranks: &Ranks, step: u64) -> Result<Option<RankLine>> {
        if ranks.others().is_none() || self.updates == 0 {
            return Ok(None);
        }
        let spent = self.spent(ranks);
        *self = Self::new(ranks);
        let all = ranks.gather(serde_json::to_vec(&spent)?)?;
        if !ranks.is_first() {
            return Ok(None);
        }
        let all: Vec<Spent> =
            all.iter().map(|spent| serde_json::from_slice(spent)).collect::<Result<_, _>>()?;
        let of = |value: fn(&Spent) -> f64| all.iter().map(value).collect();
        Ok(Some(RankLine {
            step,
            seconds: of(|spent| spent.seconds),
            seconds_waiting: of(|spent| spent.waiting),
            bytes_in_machine: of(|spent| spent.machine),
            bytes_between_machines: of(|spent| spent.peers),
            bytes_to_all: of(|spent| spent.world),
        }))
    }

    fn spent(&self, ranks: &Ranks) -> Spent {
        let updates = self.updates as f64;
        let now = traffic(ranks);
        let sent =
            |group: Group| (now[group as usize].sent - self.traffic[group as usize].sent) as f64 / updates;
        let waited =
            now.iter().zip(&self.traffic).map(|(now, then)| (now.waited - then.waited).as_secs_f64());
        Spent {
            seconds: self.begun.elapsed().as_secs_f64() / updates,
            waiting: waited.sum::<f64>() / updates,
            machine: sent(Group::Machine),
            peers: sent(Group::Peers),
            world: sent(Group::World),
        }
    }
}

fn traffic(ranks: &Ranks) -> [Traffic; 3] {
    ranks.others().map_or_else(Default::default, |others| Group::ALL.map(|group| others.traffic(group)))
}
