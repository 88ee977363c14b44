//! Options of the metrics that sample images.

use std::path::PathBuf;

use anyhow::Result;
use dalle_native::ModelFolder;
use dalle_shared::SamplingSettings;

use super::super::options::{DeviceArgs, SamplingArgs};
use super::output::OutputArgs;
use super::values;

/// Sampling settings with a seed.
#[derive(clap::Args)]
pub(super) struct SeededSampling {
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

impl SeededSampling {
    /// The settings, validated for a model.
    pub(super) fn settings(&self, folder: &ModelFolder) -> Result<SamplingSettings> {
        self.sampling.settings(folder.config.dvae.vocab)
    }
}

/// Options of the metrics that sample training captions.
#[derive(clap::Args)]
pub(super) struct CaptionArgs {
    /// Model folder.
    #[arg(long)]
    pub(super) model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    pub(super) data: PathBuf,
    /// Number of captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = values::count())]
    pub(super) captions: usize,
    #[command(flatten)]
    pub(super) sampling: SeededSampling,
    #[command(flatten)]
    pub(super) outputs: OutputArgs,
    #[command(flatten)]
    pub(super) on: DeviceArgs,
}
