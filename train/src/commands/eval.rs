//! `dalle eval`: measures of a model's samples, each a subcommand.

mod best_of_n;
mod clip_score;
mod retrieval;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::RangedU64ValueParser;
use dalle_model::device::DeviceName;
use dalle_shared::SamplingSettings;

use super::sampling::SamplingArgs;

/// Arguments of `dalle eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// One sample for each of some seen captions: is the nearest true drawing the right one?
    Retrieval(retrieval::Args),
    /// The best of N samples by the contrastive model, for several N: figure 6 of the paper.
    BestOfN(best_of_n::Args),
    /// The contrastive model's scores of samples and of true drawings, beside those of wrong ones.
    ClipScore(clip_score::Args),
}

/// What every measure needs to know.
#[derive(clap::Args)]
struct Common {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    data: PathBuf,
    /// Captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    captions: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

impl Common {
    fn sampling(&self) -> SamplingSettings {
        self.sampling.into()
    }
}

/// Runs `dalle eval`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    match args.measure {
        Measure::Retrieval(args) => retrieval::run(&args),
        Measure::BestOfN(args) => best_of_n::run(args),
        Measure::ClipScore(args) => clip_score::run(&args),
    }
}
