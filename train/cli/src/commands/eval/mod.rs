//! `dalle eval`: measures of a model's pictures, each as a page, a contact sheet and JSON.

mod best_of_n;
mod clip_score;
mod fidelity;
mod overlap;
mod provenance;
mod reconstruction;
mod retrieval;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use dalle_shared::{SamplingSettings, sha256_hex};
use provenance::Provenance;
use serde::Serialize;

use crate::png::write_png;
use dalle_data::{Dataset, Example, Split};
use dalle_eval::report::Report;
use dalle_eval::sheet::{Cell, contact_sheet};
use dalle_native::ModelFolder;
use dalle_native::publish::write_file;

use super::sampling::{DeviceArgs, SamplingArgs};
use super::{outputs, values};

/// Cells of a page or a contact sheet, so that it stays small enough to open.
const SHOWN: usize = 200;
/// Pictures in a row of a contact sheet, if a cell has no more.
const COLUMNS: usize = 10;

/// Arguments of `dalle eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// One sample for each of some seen captions: is the nearest true drawing the right one?
    Retrieval(retrieval::Args),
    /// The best of N samples by the contrastive model, for several N: figure 6 of the paper.
    BestOfN(best_of_n::Args),
    /// The contrastive model's scores of samples and of true drawings, beside those of wrong ones.
    ClipScore(clip_score::Args),
    /// The dVAE's round trip: PSNR, SSIM, use of the codebook.
    Reconstruction(reconstruction::Args),
    /// Fréchet distance and Inception Score between true and sampled pictures, over the radius of a blur.
    Fd(fidelity::Args),
    /// The nearest training picture of each held-out one, to choose by eye from where on they are the same.
    Overlap(overlap::Args),
}

/// Runs `dalle eval`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    match args.measure {
        Measure::Retrieval(args) => retrieval::run(&args),
        Measure::BestOfN(args) => best_of_n::run(args),
        Measure::ClipScore(args) => clip_score::run(&args),
        Measure::Reconstruction(args) => reconstruction::run(&args),
        Measure::Fd(args) => fidelity::run(args),
        Measure::Overlap(args) => overlap::run(&args),
    }
}

/// How samples are drawn.
#[derive(clap::Args)]
struct Sampling {
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Sampling {
    /// The settings, for a model.
    fn settings(&self, folder: &ModelFolder) -> Result<SamplingSettings> {
        self.sampling.settings(folder.config.dvae.vocab)
    }
}

/// What a measure of captions that the model has seen is told.
#[derive(clap::Args)]
struct Captioned {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The dataset that the prior was trained on.
    #[arg(long)]
    data: PathBuf,
    /// Captions, chosen by hash.
    #[arg(long, default_value_t = 100, value_parser = values::count())]
    captions: usize,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Which pictures of a dataset are measured.
#[derive(clap::Args)]
struct Selection {
    /// Dataset folder.
    #[arg(long)]
    data: PathBuf,
    /// Pictures of it: train or val.
    #[arg(long, default_value = "val", value_parser = values::split)]
    split: Split,
    /// How many, chosen by hash [default: all].
    #[arg(long, value_parser = values::count())]
    count: Option<usize>,
    /// File with the keys of pictures to leave out, a line each, as `dalle eval overlap` writes it.
    #[arg(long)]
    without: Option<PathBuf>,
}

impl Selection {
    /// The examples, in the order of the hashes of their keys, and the keys of those left out.
    fn choose<'a>(&self, dataset: &'a Dataset) -> Result<(Vec<&'a Example>, BTreeSet<String>)> {
        let left_out = self.without.as_deref().map(read_keys).transpose()?.unwrap_or_default();
        if let Some(path) = &self.without {
            let known: BTreeSet<&str> = dataset.examples.iter().map(|example| example.key.as_str()).collect();
            let unknown = left_out.iter().find(|key| !known.contains(key.as_str()));
            ensure!(
                unknown.is_none(),
                "{} names `{}`, which {} does not hold: the list belongs to another dataset",
                path.display(),
                unknown.map_or("", |key| key),
                self.data.display()
            );
        }
        let mut examples: Vec<(String, &Example)> = dataset
            .split(self.split)
            .filter(|example| !left_out.contains(&example.key))
            .map(|example| (sha256_hex(format!("choose {}", example.key).as_bytes()), example))
            .collect();
        let there = examples.len();
        let count = self.count.unwrap_or(there);
        ensure!(
            there > 0 && there >= count,
            "{} has {there} pictures to choose from, expected at least {}; name another --split, or build it with more --val",
            self.data.display(),
            count.max(1)
        );
        examples.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok((examples.into_iter().take(count).map(|(_, example)| example).collect(), left_out))
    }

    /// Adds what was selected to what a measure was measured with: of a list, how many keys it has, and the SHA-256 of them sorted,
    /// a line each.
    fn told(&self, mut provenance: Provenance, left_out: &BTreeSet<String>) -> Provenance {
        provenance = provenance.with("split", self.split);
        if let Some(count) = self.count {
            provenance = provenance.with("count", count);
        }
        if self.without.is_some() {
            let lines: String = left_out.iter().map(|key| format!("{key}\n")).collect();
            let list = format!("{} keys {}", left_out.len(), sha256_hex(lines.as_bytes()));
            provenance = provenance.with("without", list);
        }
        provenance
    }
}

/// A list of keys, a line each.
fn read_keys(path: &Path) -> Result<BTreeSet<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the list {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// What a measure writes: at least one of these.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Outputs {
    /// Page to write (.html): the result with its pictures in one file.
    #[arg(long, value_parser = values::html)]
    report: Option<PathBuf>,
    /// Contact sheet to write (.png).
    #[arg(long, value_parser = values::png)]
    sheet: Option<PathBuf>,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
}

impl Outputs {
    /// Checks before the work that all can be written, and `more` too.
    fn check(&self, more: &[(&str, Option<&Path>)]) -> Result<()> {
        let own = [("--report", &self.report), ("--sheet", &self.sheet), ("--json", &self.json)];
        let own = own.map(|(option, path)| (option, path.as_deref()));
        outputs::check(&[], &[&own, more].concat())
    }

    /// Writes what is wanted, with the first [`SHOWN`] cells; `page` is made only if it is. Gives the names of what was written.
    fn write(
        &self,
        result: &impl Serialize,
        provenance: &Provenance,
        cells: &[Cell],
        page: impl FnOnce(&[Cell]) -> Result<Report>,
    ) -> Result<String> {
        let shown = &cells[..cells.len().min(SHOWN)];
        let mut written = Vec::new();
        if let Some(path) = &self.json {
            let document = Document { measured_with: provenance, result };
            write_file(path, &serde_json::to_vec_pretty(&document)?)?;
            written.push(path.display().to_string());
        }
        if let Some(path) = &self.sheet {
            let pictures = shown.first().map_or(1, |cell| cell.images.len());
            write_png(path, &contact_sheet(shown, (COLUMNS / pictures).max(1)))?;
            written.push(path.display().to_string());
        }
        if let Some(path) = &self.report {
            write_file(
                path,
                page(shown)?
                    .finish(&command_line(std::env::args_os().skip(1)), &provenance.line())
                    .as_bytes(),
            )?;
            written.push(path.display().to_string());
        }
        Ok(written.join(", "))
    }
}

/// A result as it stands in a file.
#[derive(Serialize)]
struct Document<'a, R> {
    measured_with: &'a Provenance,
    #[serde(flatten)]
    result: &'a R,
}

/// The command line, quoted for a shell.
fn command_line(arguments: impl Iterator<Item = OsString>) -> String {
    let words = arguments.map(|word| {
        let word = word.to_string_lossy();
        // Fails only for a NUL byte, which no argument of a process contains.
        shlex::try_quote(&word).map_or_else(|_| word.to_string(), |quoted| quoted.into_owned())
    });
    std::iter::once("dalle".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A sentence that says that not all pictures are shown, where it is so.
fn first_of(shown: &[Cell], all: usize) -> String {
    if shown.len() < all { format!(" The first {} of {all}.", shown.len()) } else { String::new() }
}

/// `0.123` as `12.3 %`, in one piece.
fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * share)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_command_line_of_a_report_as_it_was_typed() {
        let words = [
            "eval",
            "a caption",
            "",
            "it's",
            "\"q\"",
            "$HOME",
            "`true`",
            "a;b",
            "*",
            "?",
            "back\\slash",
            "~",
            "#1",
            "a&b",
            "(c)",
            "{1,2}",
            "!x",
            "a\nb",
            "é",
            "--n=1,2",
            "[a]",
            "<x>",
            "|",
            "=",
        ];
        let line = command_line(words.iter().map(OsString::from));
        let script = format!("dalle() {{ printf '%s\\0' \"$@\"; }}; cd /; {line}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.strip_suffix('\0').unwrap().split('\0').collect::<Vec<_>>(), words, "{line}");
        assert_eq!(
            command_line(["eval", "fd", "--json", "a/b-c_d.json"].map(OsString::from).into_iter()),
            "dalle eval fd --json a/b-c_d.json"
        );
    }
}
