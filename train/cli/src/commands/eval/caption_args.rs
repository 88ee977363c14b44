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
pub struct SeededSampling {
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SeededSampling {
    /// The settings, validated for a model.
    pub fn settings(&self, folder: &ModelFolder) -> Result<SamplingSettings> {
        self.sampling.settings(folder.config.dvae.vocab)
    }
}

/// Options of the metrics that sample training captions.
#[derive(clap::Args)]
pub struct CaptionArgs {
    /// Model folder.
    #[arg(long)]
    pub model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    pub data: PathBuf,
    /// Number of captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = values::count())]
    pub captions: usize,
    #[command(flatten)]
    pub sampling: SeededSampling,
    #[command(flatten)]
    pub outputs: OutputArgs,
    #[command(flatten)]
    pub on: DeviceArgs,
}
