//! `dalle eval retrieval`: how often the nearest drawing to a sample is the one its caption belongs to.

use std::io::Write;

use anyhow::Result;
use dalle_eval::catalogue::Catalogue;
use dalle_eval::generator::Generator;
use dalle_eval::report::Report;
use dalle_eval::retrieval::{self, Retrieval};
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::progress::bar;

use super::caption_args::CaptionArgs;
use super::output::{first_of, percent};
use super::provenance::Provenance;

/// Rows of the report's table of the worst captions.
const WORST: usize = 20;

/// Arguments of `dalle eval retrieval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    captions: CaptionArgs,
}

/// Runs `dalle eval retrieval`.
pub fn run(Args { captions: args }: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let catalogue = Catalogue::open(&args.data)?;
    let prompts = retrieval::select(&catalogue, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (settings, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let provenance = Provenance::new(&[&catalogue.dataset])
        .option("captions", args.captions)
        .model(&folder)?
        .sampling(settings, seed, args.on.dtype);
    let mut generator = Generator::load(&folder, args.on.device, args.on.dtype)?;
    let progress = bar(prompts.len() as u64, "sampling images");
    let (result, pairs) = retrieval::evaluate(&mut generator, &prompts, settings, seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = pairs
        .iter()
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "retrieval among {} drawings: top-1 {:.0} %, top-5 {:.0} % (chance {:.0} % and {:.0} %); see {written}",
        result.captions,
        100.0 * result.top_1,
        100.0 * result.top_5,
        100.0 * chance(&result, 1.0),
        100.0 * chance(&result, 5.0),
    )?;
    Ok(())
}

/// The share of samples with the right drawing among the nearest `within` by chance.
fn chance(result: &Retrieval, within: f64) -> f64 {
    (within / result.captions as f64).min(1.0)
}

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &Retrieval, shown: &[Cell]) -> Result<Report> {
    let chance = |within| percent(chance(result, within));
    let mut report = Report::new(
        "Retrieval",
        "One sample for each of several training captions, compared with all true drawings: is the nearest drawing the right one?",
    );
    report.figures(&[
        (
            "Top-1",
            percent(result.top_1),
            &format!("the nearest drawing is the right one; chance is {}", chance(1.0)),
        ),
        (
            "Top-5",
            percent(result.top_5),
            &format!("the right one is among the nearest five; chance is {}", chance(5.0)),
        ),
        ("Captions", result.captions.to_string(), "chosen by hash"),
    ]);
    let first = first_of(shown, result.captions);
    report.section(
        "Samples",
        &format!("Left: the drawing that the caption belongs to. Right: the sample.{first}"),
    );
    report.images(&["true drawing", "sample"], shown)?;
    let mut ranks = result.ranks.clone();
    ranks.sort_by(|(_, a), (_, b)| b.cmp(a));
    let rows: Vec<Vec<String>> =
        ranks.iter().take(WORST).map(|(caption, rank)| vec![caption.clone(), rank.to_string()]).collect();
    report.section("Confusions", "The captions whose own drawing has the worst rank.");
    report.table("Rank of the right drawing, worst first", &["caption", "rank"], &rows);
    Ok(report)
}
