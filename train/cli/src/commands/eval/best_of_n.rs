//! `dalle eval best-of-n`: what choosing among more samples brings.

use std::io::Write;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use dalle_data::Dataset;
use dalle_eval::best_of_n::{self, Point};
use dalle_eval::report::Report;
use dalle_eval::reranking::Judge;
use dalle_eval::retrieval;
use dalle_eval::sampling::Model;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::training::bar;

use super::super::sample::MAX_BEST_OF;
use super::provenance::Provenance;
use super::{Captioned, first_of, percent};

/// Arguments of `dalle eval best-of-n`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    captioned: Captioned,
    /// Numbers of samples to choose among.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    n: Vec<usize>,
}

/// What is written as JSON.
#[derive(Serialize)]
struct BestOfN<'a> {
    captions: usize,
    points: &'a [Point],
}

/// Measures and writes.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(mut args: Args) -> Result<()> {
    args.n.sort_unstable();
    args.n.dedup();
    let Args { captioned: args, n: ns } = &args;
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.data)?;
    let examples = retrieval::choose(&dataset, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (sampling, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let judge = Judge::load(&folder, args.on.device)?;
    let provenance = Provenance::new(&[&dataset])
        .with("captions", args.captions)
        .with_list("n", ns)
        .of(&folder)?
        .sampled(sampling, seed, args.on.dtype)
        .judged_by(&args.model)?;
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
    let each = ns.iter().max().unwrap_or(&0) * model.config.geometry().image_length();
    let progress = bar((examples.len() * each) as u64, "sampling tokens");
    let (points, rows) = best_of_n::measure(&mut model, &judge, &examples, ns, sampling, seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = rows
        .iter()
        .map(|row| {
            let best = row.best.iter().map(|(picture, _)| picture);
            Cell { images: std::iter::once(&row.drawing).chain(best).collect(), caption: &row.caption }
        })
        .collect();
    let result = BestOfN { captions: args.captions, points: &points };
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
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

fn page(result: &BestOfN, shown: &[Cell]) -> Result<Report> {
    let mut page = Report::new(
        "Is the best of many better?",
        "Many samples of each caption; the contrastive model keeps the best of the first N (figure 6 of the paper).",
    );
    let against = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        result.points.iter().map(|point| (point.n as f64, value(point))).collect()
    };
    page.section("Against N", "The score is what the choice was made by. Retrieval took no part in it: is the nearest true drawing the right one?");
    page.chart("Mean score of the best", "samples to choose among, N", &against(|point| point.score));
    page.chart("Retrieval top-1, %", "samples to choose among, N", &against(|point| 100.0 * point.top_1));
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
    page.table("The best of N", &["N", "mean score", "top-1", "top-5"], &rows);
    let left = first_of(shown, result.captions);
    page.section("The best", &format!("First the true drawing, then the best of each N.{left}"));
    let roles: Vec<String> = std::iter::once("true drawing".to_owned())
        .chain(result.points.iter().map(|point| format!("best of {}", point.n)))
        .collect();
    page.pictures(&roles.iter().map(String::as_str).collect::<Vec<_>>(), shown)?;
    Ok(page)
}
