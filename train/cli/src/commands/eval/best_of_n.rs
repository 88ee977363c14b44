//! `dalle eval best-of-n`: CLIP score and retrieval of the best of N samples, over N.

use std::io::Write;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_eval::best_of_n::{self, Point};
use dalle_eval::catalogue::Catalogue;
use dalle_eval::generator::Generator;
use dalle_eval::report::Report;
use dalle_eval::reranking::ClipScorer;
use dalle_eval::retrieval;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::progress::bar;
use serde::Serialize;

use super::super::sample::MAX_BEST_OF;
use super::caption_args::CaptionArgs;
use super::output::{first_of, percent};
use super::provenance::Provenance;

/// Arguments of `dalle eval best-of-n`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    captions: CaptionArgs,
    /// Values of N, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    n: Vec<usize>,
}

/// The JSON file.
#[derive(Serialize)]
pub struct BestOfN<'a> {
    /// Number of captions.
    pub captions: usize,
    /// One point per N.
    pub points: &'a [Point],
}

/// Runs `dalle eval best-of-n`.
pub fn run(mut args: Args) -> Result<()> {
    args.n.sort_unstable();
    args.n.dedup();
    let Args { captions: args, n: ns } = &args;
    args.outputs.check(&[])?;
    let catalogue = Catalogue::open(&args.data)?;
    let prompts = retrieval::select(&catalogue, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (settings, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let scorer = ClipScorer::load(&folder, args.on.device)?;
    let provenance = Provenance::new(&[&catalogue.dataset])
        .option("captions", args.captions)
        .list("n", ns)
        .model(&folder)?
        .sampling(settings, seed, args.on.dtype)
        .weights(&args.model)?;
    let mut generator = Generator::load(&folder, args.on.device, args.on.dtype)?;
    let each = ns.iter().max().unwrap_or(&0) * generator.config.geometry().image_length();
    let progress = bar((prompts.len() * each) as u64, "sampling tokens");
    let (points, ranked) =
        best_of_n::evaluate(&mut generator, &scorer, &prompts, ns, settings, seed, |done| {
            progress.set_position(done as u64);
        })?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = ranked
        .iter()
        .map(|samples| {
            let best = samples.best.iter().map(|(image, _)| image);
            Cell {
                images: std::iter::once(&samples.drawing).chain(best).collect(),
                caption: &samples.caption,
            }
        })
        .collect();
    let result = BestOfN { captions: args.captions, points: &points };
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report(&result, shown))?;
    let mut out = std::io::stdout();
    for Point { n, score, top_1, top_5 } in &points {
        writeln!(
            out,
            "best of {n}: mean score {score:.3}, retrieval among {} drawings top-1 {:.0} %, top-5 {:.0} %",
            args.captions,
            100.0 * top_1,
            100.0 * top_5
        )?;
    }
    writeln!(out, "see {written}")?;
    Ok(())
}

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &BestOfN, shown: &[Cell]) -> Result<Report> {
    let mut report = Report::new(
        "The best of N samples",
        "Several samples of each caption are reranked with CLIP. The best of the first N is kept (figure 6 of the paper).",
    );
    let over_n = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        result.points.iter().map(|point| (point.n as f64, value(point))).collect()
    };
    report.section(
        "Over N",
        "Samples are selected by their score, so the score improves by construction. Retrieval is independent of it: it is the share \
         of samples whose nearest true drawing is the right one.",
    );
    report.chart("Mean score of the best", "number of samples N", &over_n(|point| point.score))?;
    report.chart("Retrieval top-1, %", "number of samples N", &over_n(|point| 100.0 * point.top_1))?;
    let rows: Vec<Vec<String>> = result
        .points
        .iter()
        .map(|point| {
            vec![
                point.n.to_string(),
                format!("{:.3}", point.score),
                percent(point.top_1),
                percent(point.top_5),
            ]
        })
        .collect();
    report.table("The best of N", &["N", "mean score", "top-1", "top-5"], &rows);
    let first = first_of(shown, result.captions);
    report.section("Samples", &format!("The true drawing, followed by the best sample for each N.{first}"));
    let roles: Vec<String> = std::iter::once("true drawing".to_owned())
        .chain(result.points.iter().map(|point| format!("best of {}", point.n)))
        .collect();
    report.images(&roles.iter().map(String::as_str).collect::<Vec<_>>(), shown)?;
    Ok(report)
}
