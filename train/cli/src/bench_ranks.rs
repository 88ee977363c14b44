//! Timing of training steps by several ranks in one process: their time, the share of it in collectives, and the bytes they send.
//!
//! Ranks are threads that share the processors of this machine. They send each other what processes under `mpirun` would send, through
//! memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dalle_comm::{Communicator, Group, Options, Traffic};
use dalle_kernels::prior::PriorUpdate;
use dalle_model::Device;
use dalle_model::config::ModelConfig;
use dalle_model::footprint::Footprint;
use dalle_model::prior::{self, Prior};
use dalle_model::weights::read_values;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_train::optimizer::{AdamWConfig, COPIES};
use dalle_train::power_sgd;
use dalle_train::prior_schedule::PriorSchedule;
use dalle_train::prior_training::PriorStage;
use dalle_train::ranks::Ranks;
use dalle_train::shards::{Compress, ShardedAdamW};
use dalle_train::stage::Stage;
use rayon::ThreadPoolBuilder;
use serde::Serialize;

use crate::bench::{Pairs, median, peak_memory, reset_peak_memory};

/// Updates before those that are timed.
const WARM_UP: usize = 1;

/// What to time.
#[derive(Clone, Copy, Debug)]
pub struct RankBenchmark<'a> {
    /// The model's configuration. The weights are random.
    pub config: &'a ModelConfig,
    /// The device of all ranks.
    pub device: DeviceName,
    /// Pairs per update, of all ranks together.
    pub batch: usize,
    /// Updates to time.
    pub repeats: usize,
    /// Ranks.
    pub ranks: usize,
    /// Ranks that count as one machine.
    pub per_machine: usize,
    /// Columns that gradients between machines are compressed to, if they are.
    pub columns: Option<usize>,
}

/// A mean update, but for the time.
#[derive(Clone, Debug, Serialize)]
pub struct RankTiming {
    /// Name of the model's configuration.
    pub config: String,
    /// The device.
    pub device: String,
    /// Pairs per update, of all ranks together.
    pub batch: usize,
    /// Ranks.
    pub ranks: usize,
    /// Ranks that count as one machine.
    pub ranks_per_machine: usize,
    /// Columns that gradients between machines are compressed to, if they are.
    pub powersgd_columns: Option<usize>,
    /// Median duration of an update, in seconds.
    pub seconds: f64,
    /// Image tokens trained on per second, by all ranks.
    pub tokens_per_second: f64,
    /// Share of the time that ranks waited for collectives, on average.
    pub waiting: f64,
    /// Bytes that the first rank sends to ranks of its machine.
    pub bytes_in_machine: u64,
    /// Bytes that the first rank sends to other machines.
    pub bytes_between_machines: u64,
    /// Bytes of norms and losses that the first rank sends to all ranks.
    pub bytes_to_all: u64,
    /// Peak memory of the process in bytes, if the system reports it.
    pub memory: Option<u64>,
}

/// What a rank measured.
struct Measured {
    times: Vec<f64>,
    waiting: f64,
    sent: [u64; 3],
}

impl RankBenchmark<'_> {
    /// Times updates of the prior: gradients of each rank's share of the batch, their sums, AdamW and the exchange of weights.
    ///
    /// # Errors
    /// The ranks cannot have equal shares or machines, the device fails, or has too little memory.
    pub fn time(&self) -> Result<RankTiming> {
        ensure!(
            self.batch.is_multiple_of(self.ranks),
            "--batch: expected a multiple of --ranks {}, got {}",
            self.ranks,
            self.batch
        );
        reset_peak_memory();
        let options = Options { per_machine: Some(self.per_machine), ..Options::default() };
        let communicators = Communicator::threads(self.ranks, &options)?;
        let updates = self.device.computed(PriorUpdate::supports(&prior::kernel_sizes(self.config)));
        let own = Footprint::new(self.config).training_prior(
            self.config,
            updates,
            (self.batch / self.ranks) as u64,
            COPIES,
        );
        let what = format!("training {} by {} ranks", self.config.name, self.ranks);
        memory::check(&what, own.bytes() * self.ranks as u64, self.device)?;
        let device = self.device.open()?.autodiff();
        // All ranks begin with the same weights, which are made when they are first read.
        let network = Prior::new(self.config, &device);
        read_values(&network, &mut Vec::new());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / self.ranks).max(1);
        let measured = std::thread::scope(|scope| {
            let ranks: Vec<_> = communicators
                .into_iter()
                .map(|communicator| {
                    let (network, device) = (network.clone(), &device);
                    scope.spawn(move || {
                        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
                        pool.install(|| self.rank(&Ranks::new(communicator), network, device))
                    })
                })
                .collect();
            let ended = ranks.into_iter().map(|rank| rank.join().map_err(|_| anyhow!("a rank panicked"))?);
            ended.collect::<Result<Vec<Measured>>>()
        })?;
        let first = measured.first().context("there is a rank")?;
        let seconds = median(first.times.clone());
        let tokens = self.batch * self.config.geometry().image_length();
        let [bytes_to_all, bytes_in_machine, bytes_between_machines] = first.sent;
        Ok(RankTiming {
            config: self.config.name.clone(),
            device: self.device.to_string(),
            batch: self.batch,
            ranks: self.ranks,
            ranks_per_machine: self.per_machine,
            powersgd_columns: self.columns,
            seconds,
            tokens_per_second: tokens as f64 / seconds,
            waiting: measured.iter().map(|rank| rank.waiting).sum::<f64>() / measured.len() as f64,
            bytes_in_machine,
            bytes_between_machines,
            bytes_to_all,
            memory: peak_memory(),
        })
    }

    /// The updates of one rank.
    fn rank(&self, ranks: &Ranks, network: Prior, device: &Device) -> Result<Measured> {
        let measured = self.updates(ranks, network, device);
        match &measured {
            Ok(_) => ranks.finish()?,
            Err(error) => ranks.fail(error),
        }
        measured
    }

    fn updates(&self, ranks: &Ranks, mut network: Prior, device: &Device) -> Result<Measured> {
        let communicator = ranks.others().context("there are other ranks")?;
        let pairs = Pairs { batch: self.batch / self.ranks, geometry: self.config.geometry() };
        let schedule = PriorSchedule { batch: self.batch, ..PriorSchedule::PAPER };
        let mut stage = PriorStage::new(pairs, Vec::new(), self.config, schedule, device, ranks.clone());
        let compression = self.columns.map(|columns| Compress {
            config: power_sgd::Config::paper(columns, schedule.seed),
            on_trial: false,
        });
        let mut optimizer =
            ShardedAdamW::new(AdamWConfig::PRIOR, compression, Arc::clone(communicator), &network);
        let traffic = || Group::ALL.map(|group| communicator.traffic(group));
        let (mut before, mut begun, mut times) = (traffic(), Instant::now(), Vec::new());
        for update in 0..WARM_UP + self.repeats {
            if update == WARM_UP {
                (before, begun) = (traffic(), Instant::now());
            }
            let start = Instant::now();
            let gradients = stage.gradients(&network, update as u64)?.0;
            network = optimizer.step(network, gradients, 1e-4)?.0;
            device.sync()?;
            times.push(start.elapsed().as_secs_f64());
        }
        let (seconds, after) = (begun.elapsed().as_secs_f64(), traffic());
        let difference = |of: fn(&Traffic) -> u64, i: usize| of(&after[i]) - of(&before[i]);
        let waited: Duration = (0..3).map(|i| after[i].waited - before[i].waited).sum();
        Ok(Measured {
            times: times.split_off(WARM_UP),
            waiting: waited.as_secs_f64() / seconds,
            sent: std::array::from_fn(|i| difference(|traffic| traffic.sent, i) / self.repeats as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use dalle_train::shards::UpdateTraffic;

    use super::*;

    #[test]
    fn ranks_send_the_planned_bytes_and_wait_for_a_part_of_the_time() {
        let config: ModelConfig = serde_json::from_str(include_str!("../../../configs/tiny.json")).unwrap();
        for (per_machine, columns) in [(4, None), (2, None), (2, Some(3))] {
            let benchmark = RankBenchmark {
                config: &config,
                device: DeviceName::Cpu,
                batch: 4,
                repeats: 2,
                ranks: 4,
                per_machine,
                columns,
            };
            let timing = benchmark.time().unwrap();
            let network = Prior::new(&config, &Device::flex());
            let planned = UpdateTraffic::of(&network, 4 / per_machine, per_machine, columns);
            assert_eq!(timing.bytes_in_machine, planned.in_machine as u64);
            assert_eq!(timing.bytes_between_machines, planned.between_machines as u64);
            assert!(timing.seconds > 0.0 && (0.0..1.0).contains(&timing.waiting), "{timing:?}");
            let error = RankBenchmark { batch: 6, ..benchmark }.time().unwrap_err().to_string();
            assert!(error.contains("expected a multiple of --ranks 4, got 6"), "{error}");
            let error = RankBenchmark { per_machine: 3, ..benchmark }.time().unwrap_err().to_string();
            assert!(error.contains("4 ranks with 3 on each machine"), "{error}");
        }
    }
}
