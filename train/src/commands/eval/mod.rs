//! `dalle eval retrieval`: how often a sample is nearest to the drawing its caption belongs to.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::RangedU64ValueParser;
use dalle_model::device::DeviceName;
use dalle_shared::SamplingSettings;

use super::values;
use crate::data::{Cell, Dataset, contact_sheet, write_file, write_png};
use crate::evaluation::retrieval;
use crate::model_folder::ModelFolder;
use crate::sampling::Model;
use crate::training::bar;

/// Arguments of `dalle eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// One sample for each of some seen captions: is the nearest true drawing the right one?
    Retrieval(RetrievalArgs),
}

#[derive(clap::Args)]
struct RetrievalArgs {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    data: PathBuf,
    /// Captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    captions: usize,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = SamplingSettings::DEFAULT_TEMPERATURE)]
    temperature: f32,
    /// Keep only this many most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Contact sheet to write (.png): each drawing beside its sample.
    #[arg(long, value_parser = values::png)]
    sheet: PathBuf,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle eval`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    let Measure::Retrieval(args) = args.measure;
    let dataset = Dataset::open(&args.data)?;
    let examples = retrieval::choose(&dataset, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let mut model = Model::load(&folder, &args.device.open()?)?;
    let sampling = SamplingSettings { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    let progress = bar(examples.len() as u64, "sampling pictures");
    let (result, pairs) = retrieval::measure(&mut model, &examples, sampling, args.seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = pairs
        .iter()
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect();
    write_png(&args.sheet, &contact_sheet(&cells, 5))?;
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&result)?)?;
    }
    writeln!(
        std::io::stdout(),
        "retrieval among {} drawings: top-1 {:.0} %, top-5 {:.0} % (by chance {:.0} % and {:.0} %); see {}",
        result.captions,
        100.0 * result.top_1,
        100.0 * result.top_5,
        100.0 / result.captions as f64,
        500.0 / result.captions as f64,
        args.sheet.display()
    )?;
    Ok(())
}
