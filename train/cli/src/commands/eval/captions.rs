//! `dalle eval captions FILE`: samples of the captions in a file, on a page on which a person marks each as right or wrong.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use dalle_eval::caption_file;
use dalle_eval::report::Report;
use dalle_shared::sha256_hex;
use serde_json::json;

use super::super::options::DeviceArgs;
use super::caption_args::SeededSampling;
use super::output::{Measured, OutputArgs, Picture, SHOWN, cells};
use super::provenance::Provenance;
use super::session::{BestOfArgs, Session, finish};

/// Arguments of `dalle eval captions`.
#[derive(clap::Args)]
pub struct Args {
    /// File with one caption per line, such as configs/captions/ordinary.txt. Blank lines and lines that begin with # are ignored.
    file: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    best_of: BestOfArgs,
    #[command(flatten)]
    sampling: SeededSampling,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle eval captions`.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let captions = caption_file::read(&args.file)?;
    ensure!(
        captions.len() <= SHOWN,
        "{}: expected at most {SHOWN} captions, as many as a page shows, got {}",
        args.file.display(),
        captions.len()
    );
    let mut session = Session::open(&args.model, &args.sampling, args.on)?;
    let best_of = args.best_of.best_of;
    let provenance = provenance(&session, &captions, best_of)?;
    finish(&args.outputs, measure(&mut session, &captions, best_of)?, &provenance)
}

/// Everything that the samples of `captions` depend on.
fn provenance(session: &Session, captions: &[String], best_of: usize) -> Result<Provenance> {
    let provenance = Provenance::new(&[])
        .option("captions", hash(captions))
        .option("best-of", session.best_of(best_of))
        .model(&session.folder)?;
    Ok(provenance.sampling(session.settings, session.seed, session.dtype))
}

/// Identity of a list of captions: the number, and the SHA-256 of its lines.
pub fn hash(captions: &[String]) -> String {
    let lines: String = captions.iter().map(|caption| format!("{caption}\n")).collect();
    format!("{} lines {}", captions.len(), sha256_hex(lines.as_bytes()))
}

/// Samples the captions. The browser keeps the marks of these samples apart from those of all others.
///
/// # Errors
/// A caption or setting is out of range, or the device fails.
pub fn measure(session: &mut Session, captions: &[String], best_of: usize) -> Result<Measured> {
    let identity = provenance(session, captions, best_of)?.line();
    let samples = session.sample(captions, best_of)?;
    let best_of = session.best_of(best_of);
    let each: Vec<_> = captions
        .iter()
        .zip(&samples)
        .map(|(caption, sample)| json!({ "caption": caption, "seed": sample.seed, "score": sample.score }))
        .collect();
    let pictures: Vec<Picture> = captions
        .iter()
        .zip(samples)
        .map(|(caption, sample)| Picture { images: vec![sample.best], caption: caption.clone() })
        .collect();
    let selected = if best_of > 1 {
        format!("The best of {best_of} samples of each caption, by CLIP score.")
    } else {
        "One sample of each caption.".to_owned()
    };
    let mut report = Report::new("Ordinary captions", "Does each image show what its caption says? Mark it.");
    report.section(
        "Samples",
        &format!("{selected} The marks stay in this browser; save them to keep them elsewhere."),
    );
    report.marked_images(&["sample"], &cells(&pictures), &identity)?;
    Ok(Measured {
        result: json!({ "captions": captions.len(), "best_of": best_of, "each": each }),
        report,
        summary: vec![format!(
            "{} captions sampled, best of {best_of}; mark them on the page",
            captions.len()
        )],
        pictures,
    })
}
