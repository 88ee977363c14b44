//! What every training is told: where it is kept, where it runs, and how often it says and saves how it goes.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use anyhow::{Result, anyhow, ensure};
use dalle_data::{Dataset, Example, Split};
use dalle_model::plan::Training;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use serde::Serialize;

use super::values;
use dalle_train::checkpoint::{Files, newest_state};
use dalle_train::epoch_order::EpochOrder;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::training::RunConfig;

/// The options. What is not skipped belongs to a run's settings: with others, it does not go on.
#[derive(clap::Args, Serialize)]
pub struct RunArgs {
    /// Folder for checkpoints and the loss curve; the same command continues an interrupted run. (Ctrl-C lets the update
    /// in work end and saves.)
    #[arg(long)]
    #[serde(skip)]
    pub run: PathBuf,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    #[serde(skip)]
    pub device: DeviceName,
    /// Parts in which the batch of an update is computed, one after the other; divides --batch. The result is the same but for
    /// rounding, and takes less memory.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    #[serde(skip)]
    pub accumulate: usize,
    /// Updates between logged values.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    pub log_every: u64,
    /// Updates between validations: the loss of the dataset's validation split. The best weights are kept beside the last ones.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    pub validate_every: Option<u64>,
    /// Most examples of the validation split to use, always the same.
    #[arg(long, default_value_t = 256, value_parser = values::count())]
    #[serde(skip)]
    pub validation_examples: usize,
    /// Validations without a lower loss after which the learning rate is halved.
    #[arg(long, requires = "validate_every", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    pub plateau_patience: Option<u64>,
    /// Updates between sheets in the run folder: reconstructions by the dVAE, samples of the prior.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    pub sheet_every: Option<u64>,
    /// Seconds between checkpoints.
    #[arg(long, default_value_t = 300)]
    #[serde(skip)]
    pub save_seconds: u64,
    /// Times to halve the learning rate by hand: on resume, one more than before halves it from there on.
    #[arg(long)]
    #[serde(skip)]
    pub halvings: Option<usize>,
}

impl RunArgs {
    /// Checks that a batch can be computed in parts, and that the device can hold a part, before anything is allocated. `what` is
    /// trained; `needed` says what a part of so many examples needs.
    ///
    /// # Errors
    /// What it needs, what there is, and how many parts, or which batch, would fit.
    pub fn check_memory(&self, what: &str, batch: usize, needed: impl Fn(u64) -> Training) -> Result<()> {
        let parts = self.accumulate;
        ensure!(
            batch.is_multiple_of(parts),
            "--accumulate: expected a number that divides --batch {batch}, got {parts}"
        );
        let part = (batch / parts) as u64;
        let what = match parts {
            1 => format!("training {what} with --batch {batch}"),
            _ => format!("training {what} with --batch {batch} --accumulate {parts}"),
        };
        memory::check(&what, needed(part).bytes(), self.device).map_err(|refusal| {
            let fits = |part: usize| needed(part as u64).bytes() <= refusal.free;
            let more = (parts + 1..=batch).find(|&parts| batch.is_multiple_of(parts) && fits(batch / parts));
            match more {
                Some(parts) => anyhow!("{refusal}; --accumulate {parts} would fit"),
                None => anyhow!("{refusal}; not even --batch 1 would fit"),
            }
        })
    }

    /// The examples to validate on; none if nothing is validated.
    ///
    /// # Errors
    /// The dataset has no validation split.
    pub fn held_out(&self, dataset: &Dataset) -> Result<Vec<Example>> {
        if self.validate_every.is_none() {
            return Ok(Vec::new());
        }
        let examples: Vec<&Example> = dataset.split(Split::Val).collect();
        ensure!(
            !examples.is_empty(),
            "--validate-every: expected a dataset with a validation split, this one has none; build it with \
             `dalle data build --val 0.1`"
        );
        let count = self.validation_examples.min(examples.len());
        // Those of any seed, so that runs can be compared.
        let chosen = EpochOrder::new(0, examples.len()).batch(0, count);
        Ok(chosen.into_iter().map(|turn| examples[turn.index].clone()).collect())
    }

    /// What a plateau of the validation loss is, if the learning rate depends on it: part of a run's settings.
    pub fn plateau(&self) -> Option<serde_json::Value> {
        let patience = self.plateau_patience?;
        let (every, examples) = (self.validate_every?, self.validation_examples);
        Some(serde_json::json!({ "patience": patience, "validate_every": every, "examples": examples }))
    }

    /// Updates from which the schedules follow: those that the run was started with, or `steps` if it is new.
    ///
    /// # Errors
    /// The run folder cannot be listed.
    pub fn schedule_steps(&self, steps: u64) -> Result<u64> {
        Ok(newest_state(&self.run)?.map_or(steps, |state| state.schedule_steps))
    }

    /// The configuration of a run of `steps` updates.
    pub fn config(
        &self,
        title: String,
        steps: u64,
        mut settings: serde_json::Value,
        files: Files,
        optimizer: AdamWConfig,
    ) -> RunConfig {
        if let Some(plateau) = self.plateau() {
            settings["plateau"] = plateau;
        }
        RunConfig {
            title,
            steps,
            log_every: self.log_every,
            validate_every: self.validate_every,
            plateau_patience: self.plateau_patience,
            sheet_every: self.sheet_every,
            save_seconds: self.save_seconds,
            halvings: self.halvings,
            run: self.run.clone(),
            settings,
            files,
            optimizer,
        }
    }
}
