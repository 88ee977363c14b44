//! `dalle eval`: metrics, each written as an HTML report, a contact sheet or JSON.

mod all;
mod best_of_n;
mod caption_args;
mod captions;
mod clip_retrieval;
mod clip_score;
mod composites;
mod fidelity;
mod output;
mod overlap;
mod parts;
mod provenance;
mod reconstruction;
mod retrieval;
mod selection;
mod session;
mod style;
mod unseen_style;

use anyhow::Result;
use clap::Subcommand;

use super::{outputs, values};

/// Arguments of `dalle eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    metric: Metric,
}

#[derive(Subcommand)]
enum Metric {
    /// Every metric of one model, in one report and one JSON file.
    All(all::Args),
    /// Samples of the captions in a file, on a page on which a person marks each as right or wrong.
    Captions(captions::Args),
    /// Whether samples have the style and the background colour that their captions ask for.
    Style(style::Args),
    /// Concepts in a style that training never shows them in: retrieval within the style, and the nearest training images.
    UnseenStyle(unseen_style::Args),
    /// Whether samples show both objects on the right sides, and the right number of objects.
    Composites(composites::Args),
    /// Whether CLIP tells held-out drawings apart.
    ClipRetrieval(clip_retrieval::Args),
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
        Metric::All(args) => all::run(&args),
        Metric::Captions(args) => captions::run(&args),
        Metric::Style(args) => style::run(&args),
        Metric::UnseenStyle(args) => unseen_style::run(&args),
        Metric::Composites(args) => composites::run(&args),
        Metric::ClipRetrieval(args) => clip_retrieval::run(&args),
        Metric::Retrieval(args) => retrieval::run(&args),
        Metric::BestOfN(args) => best_of_n::run(args),
        Metric::ClipScore(args) => clip_score::run(&args),
        Metric::Reconstruction(args) => reconstruction::run(&args),
        Metric::Fd(args) => fidelity::run(args),
        Metric::Overlap(args) => overlap::run(&args),
    }
}
