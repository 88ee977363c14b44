//! `dalle eval best-of-n`: what choosing among more samples brings.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_shared::SamplingSettings;
use serde::Serialize;

use super::super::sample::MAX_BEST_OF;
use super::super::values;
use super::Common;
use crate::curve;
use crate::data::{Cell, Dataset, contact_sheet, write_file, write_png};
use crate::evaluation::best_of_n::{self, Point, Row};
use crate::evaluation::retrieval;
use crate::model_folder::ModelFolder;
use crate::reranking::Judge;
use crate::sampling::Model;
use crate::training::bar;

/// Its arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Numbers of samples to choose among.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    n: Vec<usize>,
    /// Contact sheet to write (.png): for each caption the true drawing, then the best of each N.
    #[arg(long, value_parser = values::png)]
    sheet: PathBuf,
    /// Captions on the sheet.
    #[arg(long, default_value_t = 12)]
    rows: usize,
    /// Plot to write (.png): score and retrieval against N.
    #[arg(long, value_parser = values::png)]
    plot: Option<PathBuf>,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Report<'a> {
    captions: usize,
    #[serde(flatten)]
    sampling: SamplingSettings,
    seed: u64,
    points: &'a [Point],
}

/// Measures, and writes what was asked for.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(mut args: Args) -> Result<()> {
    args.n.sort_unstable();
    args.n.dedup();
    let (common, ns) = (&args.common, &args.n);
    let dataset = Dataset::open(&common.data)?;
    let examples = retrieval::choose(&dataset, common.captions)?;
    let folder = ModelFolder::open(&common.model)?;
    let device = common.device.open()?;
    let judge = Judge::load(&folder, &device)?;
    let mut model = Model::load(&folder, &device)?;
    let each = ns.iter().max().unwrap_or(&0) * model.config.geometry().image_length();
    let progress = bar((examples.len() * each) as u64, "sampling tokens");
    let (points, rows) =
        best_of_n::measure(&mut model, &judge, &examples, ns, common.sampling(), common.seed, |done| {
            progress.set_position(done as u64);
        })?;
    progress.finish_and_clear();

    let shown = &rows[..args.rows.min(rows.len())];
    write_png(&args.sheet, &sheet(shown, ns))?;
    if let Some(path) = &args.plot {
        let against = |value: fn(&Point) -> f64| points.iter().map(|p| (p.n as u64, value(p))).collect();
        let lines = BTreeMap::from([
            ("mean score of the best".to_owned(), against(|point| point.score)),
            ("retrieval top-1".to_owned(), against(|point| point.top_1)),
        ]);
        curve::plot(&format!("best of N, {} captions", common.captions), "N", &lines, path)?;
    }
    if let Some(path) = &args.json {
        let report = Report {
            captions: common.captions,
            sampling: common.sampling(),
            seed: common.seed,
            points: &points,
        };
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    let mut out = std::io::stdout();
    for Point { n, score, top_1, top_5 } in &points {
        writeln!(
            out,
            "best of {n}: mean score {score:.3}, retrieval among {} drawings top-1 {:.0} %, top-5 {:.0} %",
            common.captions,
            100.0 * top_1,
            100.0 * top_5
        )?;
    }
    Ok(())
}

/// Captions down, N across, behind the true drawing.
fn sheet(rows: &[Row], ns: &[usize]) -> image::RgbImage {
    let labels: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let best = ns.iter().zip(&row.best).map(|(n, (_, score))| format!("of {n}: {score:.2}"));
            std::iter::once(row.caption.clone()).chain(best).collect()
        })
        .collect();
    let cells: Vec<Cell> = rows
        .iter()
        .zip(&labels)
        .flat_map(|(row, labels)| {
            let pictures = std::iter::once(&row.drawing).chain(row.best.iter().map(|(picture, _)| picture));
            pictures.zip(labels).map(|(picture, label)| Cell { images: vec![picture], caption: label })
        })
        .collect();
    contact_sheet(&cells, 1 + ns.len())
}
