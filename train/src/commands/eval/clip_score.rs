//! `dalle eval clip-score`: how near the contrastive model finds captions and pictures.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::super::values;
use super::Common;
use crate::data::{Dataset, write_file};
use crate::evaluation::{clip_score, retrieval};
use crate::model_folder::ModelFolder;
use crate::reranking::Judge;
use crate::sampling::Model;
use crate::training::bar;

/// Its arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
}

/// Measures, and writes what was asked for.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    ensure!(common.captions > 1, "--captions: expected 2 or more, so that there are wrong pairs, got 1");
    let dataset = Dataset::open(&common.data)?;
    let examples = retrieval::choose(&dataset, common.captions)?;
    let folder = ModelFolder::open(&common.model)?;
    let device = common.device.open()?;
    let judge = Judge::load(&folder, &device)?;
    let mut model = Model::load(&folder, &device)?;
    let progress = bar(examples.len() as u64, "sampling pictures");
    let (_, pairs) = retrieval::measure(&mut model, &examples, common.sampling(), common.seed, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let result = clip_score::measure(&judge, &pairs)?;
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&result)?)?;
    }
    writeln!(
        std::io::stdout(),
        "mean score of {} captions: with their samples {:.3}, with their true drawings {:.3}, with all other drawings {:.3}\n\
         captions that score their own picture highest: sample {:.0} %, true drawing {:.0} % (by chance {:.0} %)",
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
