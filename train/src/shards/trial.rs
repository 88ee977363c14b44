//! Measures whether compressed sums over machines are faster than plain ones.

use std::time::Duration;

use dalle_comm::{Communicator, Failure, Group, Wire};

/// Updates of each kind that are measured.
const MEASURED: u32 = 4;

/// Updates with and without compression in turn, without it first.
#[derive(Default)]
pub(super) struct Trial {
    updates: u32,
    /// The shortest time of each kind, in seconds.
    plain: Option<f32>,
    compressed: Option<f32>,
}

/// Seconds of the faster updates, averaged over ranks.
pub(super) struct Verdict {
    pub compressed: f64,
    pub plain: f64,
}

impl Trial {
    /// Whether the next update is one with compression.
    pub fn compresses_next(&self) -> bool {
        !self.updates.is_multiple_of(2)
    }

    /// Adds the time of an update. After the last one, the verdict of all ranks.
    pub fn add(&mut self, time: Duration, communicator: &Communicator) -> Result<Option<Verdict>, Failure> {
        let shortest = if self.compresses_next() { &mut self.compressed } else { &mut self.plain };
        let time = time.as_secs_f32();
        *shortest = Some(shortest.map_or(time, |shortest| shortest.min(time)));
        self.updates += 1;
        if self.updates < 2 * MEASURED {
            return Ok(None);
        }
        let own = [self.compressed, self.plain].map(Option::unwrap_or_default);
        let sums = communicator.all_reduce(Group::World, own.to_vec(), Wire::F32).wait()?;
        let ranks = communicator.size(Group::World) as f64;
        let [compressed, plain] = [0, 1].map(|kind| f64::from(sums[kind]) / ranks);
        Ok(Some(Verdict { compressed, plain }))
    }
}
