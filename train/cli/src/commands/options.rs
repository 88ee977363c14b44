//! Options shared by all commands that sample: device, data type and sampling settings.

use anyhow::{Result, anyhow};
use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;
use dalle_shared::{RequestError, SamplingSettings};

/// The device, and the data type on it.
#[derive(Clone, Copy, clap::Args)]
pub struct DeviceArgs {
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Data type of the prior's matrices and cache: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    pub dtype: Precision,
}

/// Sampling settings.
#[derive(Clone, Copy, clap::Args)]
pub struct SamplingArgs {
    /// Divides the logits; 0 selects the most likely token.
    #[arg(long, default_value_t = SamplingSettings::DEFAULT_TEMPERATURE)]
    temperature: f32,
    /// Sample from this many most likely tokens only.
    #[arg(long)]
    top_k: Option<usize>,
    /// Sample from the most likely tokens whose probabilities add up to this value.
    #[arg(long)]
    top_p: Option<f32>,
    /// Classifier-free guidance scale: 1 is no guidance, larger values follow the caption more closely at twice the cost. For
    /// priors trained with `--caption-dropout`.
    #[arg(long, default_value_t = 1.0)]
    guidance: f32,
}

impl SamplingArgs {
    /// The settings, validated for a vocabulary of `classes`.
    ///
    /// # Errors
    /// An option is out of range.
    pub fn settings(self, classes: usize) -> Result<SamplingSettings> {
        let Self { temperature, top_k, top_p, guidance } = self;
        validated(SamplingSettings { temperature, top_k, top_p, guidance }, classes)
    }
}

/// Validates settings for a vocabulary of `classes`. The error names the option as it is typed.
///
/// # Errors
/// An option is out of range.
pub fn validated(settings: SamplingSettings, classes: usize) -> Result<SamplingSettings> {
    settings
        .validate(classes)
        .map_err(|RequestError { field, message }| anyhow!("--{}: {message}", field.replace('_', "-")))?;
    Ok(settings)
}
