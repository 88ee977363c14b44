//! `dalle eval`: metrics, each written as an HTML report, a contact sheet or JSON.

mod best_of_n;
mod clip_score;
mod fidelity;
mod output;
mod overlap;
mod provenance;
mod reconstruction;
mod retrieval;
mod selection;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use dalle_native::ModelFolder;
use dalle_shared::SamplingSettings;

use super::options::{DeviceArgs, SamplingArgs};
use super::{outputs, values};
use output::OutputArgs;

/// Arguments of `dalle eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    metric: Metric,
}

#[derive(Subcommand)]
enum Metric {
    /// How often the nearest drawing to a sample is the one its caption belongs to.
    Retrieval(retrieval::Args),
    /// CLIP score and retrieval of the best of N samples, over N (figure 6 of the paper).
    BestOfN(best_of_n::Args),
    /// CLIP scores of samples and of true drawings, against those of mismatched pairs.
    ClipScore(clip_score::Args),
    /// Reconstruction quality of the dVAE: PSNR, SSIM, codebook usage.
    Reconstruction(reconstruction::Args),
    /// Fréchet distance and Inception Score of samples against true images, over the radius of a blur.
    Fd(fidelity::Args),
    /// For each held-out image, its nearest training image: pick a duplicate threshold by eye.
    Overlap(overlap::Args),
}

/// Runs `dalle eval`.
pub fn run(args: Args) -> Result<()> {
    match args.metric {
        Metric::Retrieval(args) => retrieval::run(&args),
        Metric::BestOfN(args) => best_of_n::run(args),
        Metric::ClipScore(args) => clip_score::run(&args),
        Metric::Reconstruction(args) => reconstruction::run(&args),
        Metric::Fd(args) => fidelity::run(args),
        Metric::Overlap(args) => overlap::run(&args),
    }
}

/// Sampling settings with a seed.
#[derive(clap::Args)]
struct SeededSampling {
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SeededSampling {
    /// The settings, validated for a model.
    fn settings(&self, folder: &ModelFolder) -> Result<SamplingSettings> {
        self.sampling.settings(folder.config.dvae.vocab)
    }
}

/// Options of the metrics that sample training captions.
#[derive(clap::Args)]
struct CaptionArgs {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    data: PathBuf,
    /// Number of captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = values::count())]
    captions: usize,
    #[command(flatten)]
    sampling: SeededSampling,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    on: DeviceArgs,
}

/// `0.123` as `12.3 %`, with a no-break space.
fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * share)
}
