//! `dalle eval clip-score`: how near the contrastive model finds captions and pictures.

use std::io::Write;

use anyhow::{Result, ensure};

use dalle_data::Dataset;
use dalle_eval::clip_score::{self, ClipScore};
use dalle_eval::report::Report;
use dalle_eval::reranking::Judge;
use dalle_eval::retrieval;
use dalle_eval::sampling::Model;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_train::training::bar;

use super::provenance::Provenance;
use super::{Captioned, first_of, percent};

/// Arguments of `dalle eval clip-score`.
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
    ensure!(args.captions > 1, "--captions: expected 2 or more, so that there are wrong pairs, got 1");
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.data)?;
    let examples = retrieval::choose(&dataset, args.captions)?;
    let folder = ModelFolder::open(&args.model)?;
    let (sampling, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let judge = Judge::load(&folder, args.on.device)?;
    let provenance = Provenance::new(&[&dataset])
        .with("captions", args.captions)
        .of(&folder)?
        .sampled(sampling, seed, args.on.dtype)
        .judged_by(&args.model)?;
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
    let progress = bar(examples.len() as u64, "sampling pictures");
    let (_, pairs) = retrieval::measure(&mut model, &examples, sampling, seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let result = clip_score::measure(&judge, &pairs)?;
    let cells: Vec<Cell> = pairs
        .iter()
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "mean score of {} captions: with their samples {:.3}, with their true drawings {:.3}, with all other drawings {:.3}\n\
         captions that score their own picture highest: sample {:.0} %, true drawing {:.0} % (by chance {:.0} %); see {written}",
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

fn page(result: &ClipScore, shown: &[Cell]) -> Result<Report> {
    let mut page = Report::new(
        "How well do captions and pictures agree?",
        "The contrastive model's score of a caption and a picture is the cosine between them, from −1 to 1.",
    );
    let score = |score: f64| format!("{score:.3}");
    page.figures(&[
        ("Samples", score(result.samples), "mean score of each caption with its sample"),
        ("True drawings", score(result.drawings), "with its true drawing"),
        ("Chance", score(result.shuffled), "with the drawings of all other captions"),
    ]);
    page.section(
        "Whose picture scores highest",
        "Of all the pictures here, does a caption score its own highest?",
    );
    let chance = percent(1.0 / result.captions as f64);
    page.table(
        "Captions that score their own picture highest",
        &["pictures", "share", "by chance"],
        &[
            vec!["samples".to_owned(), percent(result.samples_top_1), chance.clone()],
            vec!["true drawings".to_owned(), percent(result.drawings_top_1), chance],
        ],
    );
    let left = first_of(shown, result.captions);
    page.section(
        "The samples",
        &format!("Left the drawing that the caption belongs to, right what the model draws.{left}"),
    );
    page.pictures(&["true drawing", "sample"], shown)?;
    Ok(page)
}
