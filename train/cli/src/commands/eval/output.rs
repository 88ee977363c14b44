//! Writes a metric's result: an HTML report, a contact sheet and JSON.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use dalle_eval::report::Report;
use dalle_eval::sheet::{Cell, contact_sheet};
use dalle_native::publish::write_file;
use image::RgbImage;
use serde::Serialize;
use serde_json::Value;

use super::provenance::Provenance;
use super::{outputs, values};
use crate::png::write_png;

/// Maximum number of cells in a report or contact sheet, to limit the size of the file.
pub const SHOWN: usize = 200;
/// Images per row of a contact sheet, if a cell has no more.
const COLUMNS: usize = 10;

/// What to write; at least one is required.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub struct OutputArgs {
    /// HTML report to write (.html): the result with its images in one file.
    #[arg(long, value_parser = values::html)]
    report: Option<PathBuf>,
    /// Contact sheet to write (.png).
    #[arg(long, value_parser = values::png)]
    sheet: Option<PathBuf>,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
}

impl OutputArgs {
    /// Checks before the work starts that these outputs, and `more`, can be written.
    ///
    /// # Errors
    /// See [`outputs::check`].
    pub fn check(&self, more: &[(&str, Option<&Path>)]) -> Result<()> {
        let own = [("--report", &self.report), ("--sheet", &self.sheet), ("--json", &self.json)];
        let own = own.map(|(option, path)| (option, path.as_deref()));
        outputs::check(&[], &[&own, more].concat())
    }

    /// Writes the requested files, with the first [`SHOWN`] cells. `report` is called only if a report is requested. Returns the
    /// names of the files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(
        &self,
        result: &impl Serialize,
        provenance: &Provenance,
        cells: &[Cell],
        report: impl FnOnce(&[Cell]) -> Result<Report>,
    ) -> Result<String> {
        let shown = &cells[..cells.len().min(SHOWN)];
        let mut written = Vec::new();
        if let Some(path) = &self.json {
            let document = Document { measured_with: provenance, result };
            write_file(path, &serde_json::to_vec_pretty(&document)?)?;
            written.push(path.display().to_string());
        }
        if let Some(path) = &self.sheet {
            let images = shown.first().map_or(1, |cell| cell.images.len());
            write_png(path, &contact_sheet(shown, (COLUMNS / images).max(1)))?;
            written.push(path.display().to_string());
        }
        if let Some(path) = &self.report {
            let command = command_line(std::env::args_os().skip(1));
            write_file(path, report(shown)?.finish(&command, &provenance.line()).as_bytes())?;
            written.push(path.display().to_string());
        }
        Ok(written.join(", "))
    }

    /// Writes the requested files of a metric. Returns the names of the files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_measured(&self, measured: Measured, provenance: &Provenance) -> Result<String> {
        let Measured { result, report, pictures, .. } = measured;
        self.write(&result, provenance, &cells(&pictures), |_| Ok(report))
    }
}

/// A metric that has been measured.
pub struct Measured {
    /// The numbers.
    pub result: Value,
    /// The report, with its images.
    pub report: Report,
    /// The images of the contact sheet.
    pub pictures: Vec<Picture>,
    /// The main numbers, one line each.
    pub summary: Vec<String>,
}

/// Images side by side with a caption.
pub struct Picture {
    /// The images, of equal size.
    pub images: Vec<RgbImage>,
    /// The caption.
    pub caption: String,
}

/// The cells of the first [`SHOWN`] pictures.
pub fn cells(pictures: &[Picture]) -> Vec<Cell<'_>> {
    let shown = pictures.iter().take(SHOWN);
    shown.map(|picture| Cell { images: picture.images.iter().collect(), caption: &picture.caption }).collect()
}

/// The JSON file.
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

/// " The first n of all.", if fewer cells than `all` are shown.
pub fn first_of(shown: &[Cell], all: usize) -> String {
    if shown.len() < all { format!(" The first {} of {all}.", shown.len()) } else { String::new() }
}

/// `0.123` as `12.3 %`, with a no-break space.
pub fn percent(share: f64) -> String {
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
