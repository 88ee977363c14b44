//! The shared part of the three training commands: options, checks before the start, and the run.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use dalle_data::{Item, TrainingData};
use dalle_model::Device;
use dalle_model::footprint::{Computed, Training};
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_train::checkpoint::newest_state;
use dalle_train::interrupt::Interrupt;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::ranks::Ranks;
use dalle_train::run_folder::Files;
use dalle_train::run_state::NetworkKind;
use dalle_train::shards::Compress;
use dalle_train::stage::Stage;
use dalle_train::training::{RunConfig, train};
use serde::Serialize;

use super::ranks::RankArgs;
use super::run_hooks::RunHooks;
use super::training_data::DataArgs;
use super::values;

/// Options of all training commands. Those that serde does not skip are part of the run's identity.
#[derive(clap::Args, Serialize)]
pub struct RunArgs {
    /// Folder for checkpoints, metrics and the loss curve. The same command continues an interrupted run. Ctrl-C finishes the
    /// current update, saves and stops.
    #[arg(long)]
    #[serde(skip)]
    run: PathBuf,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    #[serde(skip)]
    pub device: DeviceName,
    /// Split the batch of an update into this many parts, computed one after another, to save memory; must divide --batch. The
    /// result is the same up to rounding. Not for the dVAE and the prior on the CPU, where it would save none.
    #[arg(long, value_name = "PARTS", default_value_t = 1, value_parser = values::batch())]
    #[serde(skip)]
    pub accumulate: usize,
    /// Recompute cheap activations in the backward pass instead of keeping them, to save memory. Not on the
    /// CPU.
    #[arg(long)]
    #[serde(skip)]
    pub gradient_checkpointing: bool,
    /// Updates between two logs.
    #[arg(long, value_name = "UPDATES", default_value_t = 50, value_parser = updates())]
    #[serde(skip)]
    log_every: u64,
    /// Updates between two validations on the dataset's validation split. The best checkpoint is kept in addition to the newest.
    #[arg(long, value_name = "UPDATES", value_parser = updates())]
    #[serde(skip)]
    validate_every: Option<u64>,
    /// Number of examples to validate on; always the same ones.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = values::count())]
    #[serde(skip)]
    validation_examples: usize,
    /// Halve the learning rate after this many validations without improvement.
    #[arg(long, value_name = "VALIDATIONS", requires = "validate_every", value_parser = updates())]
    #[serde(skip)]
    plateau_patience: Option<u64>,
    /// Updates between two contact sheets in the run folder: reconstructions by the dVAE, samples of the prior.
    #[arg(long, value_name = "UPDATES", value_parser = updates())]
    #[serde(skip)]
    pub sheet_every: Option<u64>,
    /// Seconds between two checkpoints.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    #[serde(skip)]
    save_seconds: u64,
    /// Total number of manual halvings of the learning rate. To halve it now, resume with one more than before.
    #[arg(long, value_name = "TIMES", value_parser = values::halvings())]
    #[serde(skip)]
    halvings: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub ranks: RankArgs,
}

/// Share of a transformer's activations that gradient checkpointing keeps. On a CPU, 0.46 and 0.55 were measured for streams of 288
/// and 1040 slots.
pub const KEPT_BY_TRANSFORMER: f64 = 0.6;
/// The same for the dVAE: 0.68 was measured for configs/emoji-128.json.
pub const KEPT_BY_DVAE: f64 = 0.75;

/// A positive number of updates.
pub fn updates() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..)
}

/// The settings that determine the result of an update. A run resumes only with the same ones.
#[derive(Serialize)]
pub struct RunIdentity<'a, O, M, I> {
    /// The network.
    pub network: NetworkKind,
    /// Options of the command.
    #[serde(flatten)]
    pub options: &'a O,
    /// Sizes of the network.
    pub model: &'a M,
    /// Hashes and weights of the datasets.
    pub data: serde_json::Value,
    /// Other inputs of the training.
    #[serde(flatten)]
    pub inputs: I,
    /// Set if the learning rate depends on validations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plateau: Option<PlateauRule>,
}

/// The definition of a plateau of the validation loss.
#[derive(Serialize)]
pub struct PlateauRule {
    patience: u64,
    validate_every: u64,
    examples: usize,
}

/// A run to start.
pub struct Job {
    /// Heading of the curve.
    pub title: String,
    /// Total number of updates.
    pub steps: u64,
    /// The [`RunIdentity`].
    pub identity: serde_json::Value,
    /// Configurations and tokenizer of the network.
    pub files: Files,
    /// Hyper-parameters of the optimizer.
    pub optimizer: AdamWConfig,
    /// How gradients are compressed between machines, if they are.
    pub compression: Option<Compress>,
}

impl RunArgs {
    /// What computes the updates of a network that `dalle-kernels` may compute.
    ///
    /// # Errors
    /// An option to save memory has no effect there.
    pub fn updates(&self, supported: bool) -> Result<Computed> {
        let updates = self.device.computed(supported);
        if updates != Computed::Burn {
            let why = "it has no effect on the CPU, which keeps one example for each thread in memory, whatever the batch; leave it \
                       out, and set RAYON_NUM_THREADS to use fewer threads";
            ensure!(self.accumulate == 1, "--accumulate: expected 1, got {}: {why}", self.accumulate);
            ensure!(!self.gradient_checkpointing, "--gradient-checkpointing: {why}");
        }
        Ok(updates)
    }

    /// Checks that the batch can be split, and that a part fits the device, before anything is allocated. `what` is the network, and
    /// `needed` computes the memory of a rank for a number of examples. Returns the bytes that the device needs, or on a CPU, those that all
    /// ranks of the machine need.
    ///
    /// # Errors
    /// The ranks cannot share the batch, --accumulate does not divide their shares, or memory is too small: then the error says which
    /// --accumulate, or how many threads, would fit.
    pub fn check_memory(
        &self,
        what: &str,
        batch: usize,
        ranks: &Ranks,
        updates: Computed,
        needed: impl Fn(Computed, u64) -> Training,
    ) -> Result<u64> {
        let parts = self.accumulate;
        let world = ranks.share(batch)?.world;
        let batch = batch / world;
        ensure!(
            batch.is_multiple_of(parts),
            "--accumulate: expected a number that divides {}, got {parts}",
            match world {
                1 => format!("--batch {batch}"),
                _ => format!("{batch}, the examples of each of {world} ranks"),
            }
        );
        let what = match parts {
            1 => format!("training {what} with --batch {batch}"),
            _ => format!("training {what} with --batch {batch} --accumulate {parts}"),
        };
        // Ranks of a machine share its memory, but not that of GPUs.
        let together = match self.device {
            DeviceName::Cpu | DeviceName::LibTorch => ranks.per_machine() as u64,
            DeviceName::Cuda(_) | DeviceName::Wgpu => 1,
        };
        let what = match together {
            1 => what,
            _ => format!("{what} by {together} ranks on this machine"),
        };
        if let Computed::Kernels(threads) = updates {
            // Validation computes as many examples at once as training, if there are as many.
            let validated = self.validate_every.map_or(0, |_| self.validation_examples);
            let validated = validated.div_ceil(world);
            let bytes =
                |threads| together * needed(Computed::Kernels(threads), batch.max(validated) as u64).bytes();
            memory::check(&what, bytes(threads), self.device).map_err(|refusal| {
                match (1..threads).rev().find(|&fewer| bytes(fewer) <= refusal.free) {
                    Some(fewer) => anyhow!("{refusal}; RAYON_NUM_THREADS={fewer} would fit"),
                    None => anyhow!("{refusal}; not even one thread would fit"),
                }
            })?;
            return Ok(bytes(threads));
        }
        let bytes = |parts: usize| together * needed(updates, (batch / parts) as u64).bytes();
        memory::check(&what, bytes(parts), self.device).map_err(|refusal| {
            let fits = |&more: &usize| batch.is_multiple_of(more) && bytes(more) <= refusal.free;
            match (parts + 1..=batch).find(fits) {
                Some(more) => anyhow!("{refusal}; --accumulate {more} would fit"),
                None => anyhow!("{refusal}; not even --batch 1 would fit"),
            }
        })?;
        Ok(bytes(parts))
    }

    /// `training` with the share `kept` of its activations, if gradient checkpointing is on.
    pub fn checkpointed(&self, training: Training, kept: f64) -> Training {
        let kept = if self.gradient_checkpointing { kept } else { 1.0 };
        Training { activations: (training.activations as f64 * kept) as u64, ..training }
    }

    /// Opens the device to train on. Returns it with and without autodiff.
    ///
    /// # Errors
    /// The device is missing or does not work.
    pub fn open_device(&self) -> Result<(Device, Device)> {
        let plain = self.device.open()?;
        let device = plain.clone().autodiff();
        let device = if self.gradient_checkpointing { device.gradient_checkpointing() } else { device };
        Ok((device, plain))
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        &self.run
    }

    /// The examples to validate on; empty if there is no validation.
    ///
    /// # Errors
    /// The dataset has no validation split.
    pub fn held_out(&self, args: &DataArgs, data: &TrainingData) -> Result<Vec<Item>> {
        match self.validate_every {
            None => Ok(Vec::new()),
            Some(_) => args.held_out(data, self.validation_examples),
        }
    }

    /// The plateau rule, if the learning rate depends on one.
    pub fn plateau(&self) -> Option<PlateauRule> {
        Some(PlateauRule {
            patience: self.plateau_patience?,
            validate_every: self.validate_every?,
            examples: self.validation_examples,
        })
    }

    /// The number of updates for schedules: the one that the run was started with, or `steps` if it is new.
    ///
    /// # Errors
    /// The run folder cannot be listed.
    pub fn schedule_steps(&self, steps: u64) -> Result<u64> {
        Ok(newest_state(&self.run)?.map_or(steps, |state| state.schedule_steps))
    }

    /// Trains `fresh`, or continues the run. Returns the network with averaged weights.
    ///
    /// # Errors
    /// The run cannot be started, diverges, or is interrupted.
    pub fn train<S: Stage>(
        &self,
        stage: &mut S,
        fresh: S::Network,
        hooks: &mut RunHooks<S::Network>,
        job: Job,
        ranks: &Ranks,
    ) -> Result<S::Network> {
        let Job { title, steps, identity, files, optimizer, compression } = job;
        let config = RunConfig {
            title,
            steps,
            log_every: self.log_every,
            validate_every: self.validate_every,
            plateau_patience: self.plateau_patience,
            sheet_every: self.sheet_every,
            save_seconds: self.save_seconds,
            halvings: self.halvings,
            run: self.run.clone(),
            identity,
            files,
            optimizer,
            compression,
            ranks: ranks.clone(),
        };
        // Before the run folder is created, because its existence tells scripts that Ctrl-C is handled.
        let interrupt = Interrupt::listen()?;
        Ok(train(stage, fresh, &config, hooks, &interrupt)?.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use dalle_comm::Communicator;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: RunArgs,
    }

    #[test]
    fn ranks_of_a_machine_without_gpus_must_fit_its_memory_together() {
        let args = Cli::try_parse_from(["dalle", "--run", "r"]).unwrap().args;
        let Some(free) = memory::free(DeviceName::Cpu) else { return };
        // One rank fits, two do not.
        let each = |_: Computed, _: u64| Training { state: free / 5 * 3, activations: 0 };
        let check = |ranks: &Ranks| args.check_memory("a network", 4, ranks, Computed::Burn, each);
        assert_eq!(check(&Ranks::alone()).unwrap(), free / 5 * 3);
        let all = Communicator::threads(2, &dalle_comm::Options::default()).unwrap();
        let all: Vec<Ranks> = all.into_iter().map(Ranks::new).collect();
        for ranks in &all {
            let message = check(ranks).unwrap_err().to_string();
            assert!(message.contains("a network with --batch 2 by 2 ranks on this machine"), "{message}");
        }
    }
}
