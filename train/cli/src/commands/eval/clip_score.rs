//! `dalle eval clip-score`: CLIP scores of samples and of true drawings.

use std::io::Write;

use anyhow::{Result, ensure};
use dalle_eval::catalogue::Catalogue;
use dalle_eval::clip_score::{self, ClipScore};
use dalle_eval::generator::Generator;
use dalle_eval::report::Report;
use dalle_eval::reranking::ClipScorer;
use dalle_eval::retrieval;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::progress::bar;

use super::caption_args::CaptionArgs;
use super::output::{first_of, percent};
use super::provenance::Provenance;

/// Arguments of `dalle eval clip-score`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    captions: CaptionArgs,
}

/// Runs `dalle eval clip-score`.
pub fn run(Args { captions: args }: &Args) -> Result<()> {
    ensure!(args.captions > 1, "--captions: expected 2 or more, so that there are mismatched pairs, got 1");
    args.outputs.check(&[])?;
    let catalogue = Catalogue::open(&args.data)?;
    let prompts = retrieval::select(&catalogue, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (settings, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let scorer = ClipScorer::load(&folder, args.on.device)?;
    let provenance = Provenance::new(&[&catalogue.dataset])
        .option("captions", args.captions)
        .model(&folder)?
        .sampling(settings, seed, args.on.dtype)
        .weights(&args.model)?;
    let mut generator = Generator::load(&folder, args.on.device, args.on.dtype)?;
    let progress = bar(prompts.len() as u64, "sampling images");
    let (_, pairs) = retrieval::evaluate(&mut generator, &prompts, settings, seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let result = clip_score::evaluate(&scorer, &pairs)?;
    let cells: Vec<Cell> = pairs
        .iter()
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "mean score of {} captions: with their samples {:.3}, with their true drawings {:.3}, with all other drawings {:.3}\n\
         captions that score their own image highest: sample {:.0} %, true drawing {:.0} % (chance {:.0} %); see {written}",
        result.captions,
        result.samples,
        result.drawings,
        result.shuffled,
        100.0 * result.samples_top_1,
        100.0 * result.drawings_top_1,
        100.0 / result.captions as f64
    )?;
    Ok(())
}

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &ClipScore, shown: &[Cell]) -> Result<Report> {
    let mut report = Report::new(
        "CLIP scores",
        "The CLIP score of a caption and an image is their cosine similarity, from −1 to 1.",
    );
    let score = |score: f64| format!("{score:.3}");
    report.figures(&[
        ("Samples", score(result.samples), "mean score of each caption with its sample"),
        ("True drawings", score(result.drawings), "mean score of each caption with its true drawing"),
        ("Mismatched pairs", score(result.shuffled), "mean score with the drawings of all other captions"),
    ]);
    report.section(
        "Retrieval",
        "The share of captions that score their own image higher than the images of all other captions.",
    );
    let chance = percent(1.0 / result.captions as f64);
    report.table(
        "Captions that score their own image highest",
        &["images", "share", "chance"],
        &[
            vec!["samples".to_owned(), percent(result.samples_top_1), chance.clone()],
            vec!["true drawings".to_owned(), percent(result.drawings_top_1), chance],
        ],
    );
    let first = first_of(shown, result.captions);
    report.section(
        "Samples",
        &format!("Left: the drawing that the caption belongs to. Right: the sample.{first}"),
    );
    report.images(&["true drawing", "sample"], shown)?;
    Ok(report)
}
