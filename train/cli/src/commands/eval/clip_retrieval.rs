//! `dalle eval clip-retrieval`: whether CLIP tells held-out drawings apart.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_eval::catalogue::{Catalogue, Missing};
use dalle_eval::clip_retrieval::{ClipRetrieval, evaluate};
use dalle_eval::report::Report;
use dalle_eval::reranking::ClipScorer;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_train::progress::bar;
use serde_json::json;

use super::output::{Measured, OutputArgs, Picture, cells, first_of, percent};
use super::provenance::Provenance;
use super::session::finish;
use super::values;

/// Default of --among.
pub const AMONG: usize = 50;
/// Default of --captions.
pub const CAPTIONS: usize = 500;
/// Largest --among: all its captions and images are scored at once.
const MAX_AMONG: u64 = 1000;

/// Arguments of `dalle eval clip-retrieval`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder with CLIP.
    #[arg(long)]
    model: PathBuf,
    /// The dataset that CLIP was trained on.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    counts: Counts,
    #[command(flatten)]
    outputs: OutputArgs,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Numbers of images.
#[derive(Clone, Copy, clap::Args)]
pub struct Counts {
    /// Number of captions and drawings that are told apart from each other.
    #[arg(long, default_value_t = AMONG, value_parser = RangedU64ValueParser::<usize>::new().range(2..=MAX_AMONG))]
    pub among: usize,
    /// Most captions of each subset, chosen by hash, in groups of --among.
    #[arg(long, default_value_t = CAPTIONS, value_parser = values::count())]
    pub captions: usize,
}

/// Runs `dalle eval clip-retrieval`.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let catalogue = Catalogue::open(&args.data)?;
    let folder = ModelFolder::open(&args.model)?;
    let scorer = ClipScorer::load(&folder, args.device)?;
    let provenance = Provenance::new(&[&catalogue.dataset])
        .option("among", args.counts.among)
        .option("captions", args.counts.captions)
        .model(&folder)?
        .weights(Path::new(&args.model))?;
    let measured = measure(&catalogue, Some(&scorer), folder.config.image_size, args.counts)?;
    finish(&args.outputs, measured, &provenance)
}

/// Measures retrieval by CLIP.
///
/// # Errors
/// The model has no CLIP, the dataset has too few held-out images, or the device fails.
pub fn measure(
    catalogue: &Catalogue,
    scorer: Option<&ClipScorer>,
    size: usize,
    counts: Counts,
) -> Result<Measured> {
    let scorer = scorer
        .ok_or_else(|| Missing("the model has no CLIP; train one with `dalle clip train`".to_owned()))?;
    let progress = bar(0, "scoring groups of captions");
    let (result, confusions) =
        evaluate(catalogue, scorer, size, counts.among, counts.captions, || progress.inc(1))?;
    progress.finish_and_clear();
    let pictures: Vec<Picture> = confusions
        .into_iter()
        .map(|confusion| Picture {
            images: vec![confusion.drawing, confusion.chosen],
            caption: confusion.caption,
        })
        .collect();
    let report = report(&result, &pictures, counts.among)?;
    let line = |of: &ClipRetrieval| {
        format!(
            "CLIP, {}: of {} captions {} score their own drawing highest among {}, of the drawings {} their own caption",
            of.subset,
            of.pairs,
            percent(of.drawing_top_1),
            of.among,
            percent(of.caption_top_1)
        )
    };
    let summary = result.iter().map(line).collect();
    Ok(Measured { result: json!({ "subsets": result }), report, pictures, summary })
}

fn report(result: &[ClipRetrieval], pictures: &[Picture], among: usize) -> Result<Report> {
    let mut report = Report::new(
        "Retrieval by CLIP",
        "From a caption, CLIP chooses among several true drawings; from a drawing, among several captions. Nothing is sampled.",
    );
    let figures: Vec<(&str, String, String)> = result
        .iter()
        .map(|of| {
            (
                of.subset,
                percent(of.drawing_top_1),
                format!("of {} captions score their own drawing highest", of.pairs),
            )
        })
        .collect();
    let figures: Vec<(&str, String, &str)> =
        figures.iter().map(|(name, value, meaning)| (*name, value.clone(), meaning.as_str())).collect();
    report.figures(&figures);
    let rows: Vec<Vec<String>> = result
        .iter()
        .map(|of| {
            let shares =
                [of.drawing_top_1, of.drawing_top_5, of.caption_top_1, of.caption_top_5].map(percent);
            [of.subset.to_owned(), of.pairs.to_string()].into_iter().chain(shares).collect()
        })
        .collect();
    report.table(
        &format!("Among {among}; chance of top-1 is {}", percent(1.0 / among as f64)),
        &["subset", "pairs", "drawing, top-1", "top-5", "caption, top-1", "top-5"],
        &rows,
    );
    let shown = cells(pictures);
    report.section(
        "Confusions",
        &format!(
            "Held-out captions that score another drawing higher than their own. Left: their own. Right: the highest.{}",
            first_of(&shown, pictures.len())
        ),
    );
    report.images(&["own drawing", "drawing with the highest score"], &shown)?;
    Ok(report)
}
