//! A metric in several parts, each of which a dataset may lack something for.

use anyhow::Result;
use dalle_eval::catalogue::Missing;
use dalle_eval::report::Report;
use image::RgbImage;
use serde_json::{Map, Value};

use super::output::{Measured, Picture, cells, first_of};

/// The parts measured so far.
pub struct Parts {
    /// The report.
    pub report: Report,
    /// The main numbers, one line each.
    pub summary: Vec<String>,
    pictures: Vec<Picture>,
    results: Map<String, Value>,
    missing: Vec<String>,
}

impl Parts {
    /// No parts yet.
    pub fn new(report: Report) -> Self {
        Self { report, summary: Vec::new(), pictures: Vec::new(), results: Map::new(), missing: Vec::new() }
    }

    /// Adds a pair of images: the true one, and a sample with what it was found to show.
    pub fn compare(&mut self, truth: RgbImage, sample: RgbImage, caption: &str, found: &str) {
        self.pictures.push(Picture { images: vec![truth, sample], caption: format!("{caption} · {found}") });
    }

    /// Adds the numbers of a part, or what the dataset lacks for it.
    ///
    /// # Errors
    /// Every error other than [`Missing`] is returned.
    pub fn add(&mut self, name: &str, part: Result<Value>) -> Result<()> {
        match part {
            Ok(value) => drop(self.results.insert(name.to_owned(), value)),
            Err(error) => self.missing.push(error.downcast::<Missing>()?.0),
        }
        Ok(())
    }

    /// All parts as one metric. `explanation` describes a pair of images, `truth` names its first one.
    ///
    /// # Errors
    /// [`Missing`] if there are no parts, or an image cannot be encoded.
    pub fn finish(self, explanation: &str, truth: &str) -> Result<Measured> {
        let Self { mut report, summary, pictures, results, missing } = self;
        if results.is_empty() {
            return Err(Missing(missing.join("; ")).into());
        }
        let shown = cells(&pictures);
        report.section("Samples", &format!("{explanation}{}", first_of(&shown, pictures.len())));
        report.images(&[truth, "sample"], &shown)?;
        Ok(Measured { result: results.into(), report, pictures, summary })
    }
}
