//! What every training is told: where it is kept, where it runs, and how often it says and saves how it goes.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use anyhow::{Result, anyhow, ensure};
use dalle_model::device::DeviceName;
use dalle_model::memory;
use dalle_model::plan::Training;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use serde::Serialize;

use super::values;
use crate::curve;
use dalle_train::checkpoint::{Files, newest_state};
use dalle_train::optimizer::AdamWConfig;
use dalle_train::run_state::History;
use dalle_train::training::{Hooks, RunConfig};

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
        settings: serde_json::Value,
        files: Files,
        optimizer: AdamWConfig,
    ) -> RunConfig {
        RunConfig {
            title,
            steps,
            log_every: self.log_every,
            save_seconds: self.save_seconds,
            halvings: self.halvings,
            run: self.run.clone(),
            settings,
            files,
            optimizer,
        }
    }
}

/// Draws the curve of a run.
pub struct Plotter;

impl Hooks for Plotter {
    fn plot(&mut self, title: &str, history: &History, run: &Path) -> Result<()> {
        curve::draw(title, history, &run.join("curve.png"))
    }
}
