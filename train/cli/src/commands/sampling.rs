//! How and where tokens are drawn, as options: the same for every command that samples.

use anyhow::{Result, anyhow};
use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;
use dalle_shared::{RequestError, SamplingSettings};

/// Where, and in which type.
#[derive(Clone, Copy, clap::Args)]
pub struct DeviceArgs {
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Type of the prior's matrices and cache: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    pub dtype: Precision,
}

/// The options.
#[derive(Clone, Copy, clap::Args)]
pub struct SamplingArgs {
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = SamplingSettings::DEFAULT_TEMPERATURE)]
    temperature: f32,
    /// Keep only this many most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Classifier-free guidance: 1 is none, more follows the caption closer, at twice the cost. For priors trained with
    /// `--caption-dropout`.
    #[arg(long, default_value_t = 1.0)]
    guidance: f32,
}

impl SamplingArgs {
    /// The settings, for a vocabulary of `classes`.
    ///
    /// # Errors
    /// The option that is out of range.
    pub fn settings(self, classes: usize) -> Result<SamplingSettings> {
        let Self { temperature, top_k, top_p, guidance } = self;
        checked(SamplingSettings { temperature, top_k, top_p, guidance }, classes)
    }
}

/// Settings that fit a vocabulary of `classes`. What does not is named as the option that it was typed as.
///
/// # Errors
/// The option that is out of range.
pub fn checked(settings: SamplingSettings, classes: usize) -> Result<SamplingSettings> {
    settings
        .validate(classes)
        .map_err(|RequestError { field, message }| anyhow!("--{}: {message}", field.replace('_', "-")))?;
    Ok(settings)
}
