//! `dalle eval retrieval`: how often a sample is nearest to the drawing its caption belongs to.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::super::values;
use super::Common;
use crate::data::{Cell, Dataset, contact_sheet, write_file, write_png};
use crate::evaluation::retrieval;
use crate::model_folder::ModelFolder;
use crate::sampling::Model;
use crate::training::bar;

/// Its arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Contact sheet to write (.png): each drawing beside its sample.
    #[arg(long, value_parser = values::png)]
    sheet: PathBuf,
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
    let dataset = Dataset::open(&common.data)?;
    let examples = retrieval::choose(&dataset, common.captions)?;
    let folder = ModelFolder::open(&common.model)?;
    let mut model = Model::load(&folder, &common.device.open()?)?;
    let progress = bar(examples.len() as u64, "sampling pictures");
    let (result, pairs) =
        retrieval::measure(&mut model, &examples, common.sampling(), common.seed, |done| {
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
