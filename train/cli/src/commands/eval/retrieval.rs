//! `dalle eval retrieval`: how often a sample is nearest to the drawing its caption belongs to.

use std::io::Write;

use dalle_data::Dataset;
use dalle_eval::report::Report;
use dalle_eval::retrieval::{self, Retrieval};
use dalle_eval::sampling::Model;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::training::bar;

use super::provenance::Provenance;
use super::{Captioned, first_of, percent};
use anyhow::Result;

/// Arguments of `dalle eval retrieval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    captioned: Captioned,
}

/// Measures and writes.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(Args { captioned: args }: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.data)?;
    let examples = retrieval::choose(&dataset, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (sampling, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let provenance = Provenance::new(&[&dataset]).with("captions", args.captions).of(&folder)?.sampled(
        sampling,
        seed,
        args.on.dtype,
    );
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
    let progress = bar(examples.len() as u64, "sampling pictures");
    let (result, pairs) = retrieval::measure(&mut model, &examples, sampling, seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = pairs
        .iter()
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "retrieval among {} drawings: top-1 {:.0} %, top-5 {:.0} % (by chance {:.0} % and {:.0} %); see {written}",
        result.captions,
        100.0 * result.top_1,
        100.0 * result.top_5,
        100.0 * chance(&result, 1.0),
        100.0 * chance(&result, 5.0),
    )?;
    Ok(())
}

/// The share that would find the right one among the nearest `within` by chance.
fn chance(result: &Retrieval, within: f64) -> f64 {
    (within / result.captions as f64).min(1.0)
}

fn page(result: &Retrieval, shown: &[Cell]) -> Result<Report> {
    let chance = |within| percent(chance(result, within));
    let mut page = Report::new(
        "Does a sample look like its drawing?",
        "One sample for each of some captions that the model has seen. Of all the true drawings, is the right one the nearest?",
    );
    page.figures(&[
        ("Top-1", percent(result.top_1), &format!("the right one is nearest; by chance {}", chance(1.0))),
        ("Top-5", percent(result.top_5), &format!("it is among the nearest five; by chance {}", chance(5.0))),
        ("Captions", result.captions.to_string(), "chosen by hash"),
    ]);
    let left = first_of(shown, result.captions);
    page.section(
        "The samples",
        &format!("Left the drawing that the caption belongs to, right what the model draws.{left}"),
    );
    page.pictures(&["true drawing", "sample"], shown)?;
    let mut ranks = result.ranks.clone();
    ranks.sort_by(|(_, a), (_, b)| b.cmp(a));
    let rows: Vec<Vec<String>> =
        ranks.iter().take(20).map(|(caption, rank)| vec![caption.clone(), rank.to_string()]).collect();
    page.section("What it confuses", "The captions whose own drawing is furthest down the list.");
    page.table("Rank of the right drawing, worst first", &["caption", "rank"], &rows);
    Ok(page)
}
