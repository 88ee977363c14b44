//! Where pictures come from, before rendering: what every source hands to the builder.

use dalle_data::{Captions, Problem, Reason, SourceSummary, Split};

use super::render::Art;

/// A picture to be rendered, with everything known of it.
pub struct Drawing {
    /// Name in the shards.
    pub key: String,
    /// Where its pixels come from.
    pub art: Art,
    /// What to call it; its templates are those of a white background.
    pub captions: Captions,
    /// What is held out together.
    pub concept: String,
    /// Trained on or held out.
    pub split: Split,
    /// An emoji's code points.
    pub hexcode: Option<String>,
    /// SPDX licence.
    pub license: String,
    /// Package, version and name, or path within the folder.
    pub source: String,
}

/// A source and its pictures.
pub struct Source {
    /// Its entry in the manifest so far.
    pub summary: SourceSummary,
    /// Its pictures.
    pub drawings: Vec<Drawing>,
    /// Those that cannot be used, by name.
    pub problems: Vec<Problem>,
}

impl Source {
    /// A source of which nothing is read yet.
    pub fn new(summary: SourceSummary) -> Self {
        Self { summary, drawings: Vec::new(), problems: Vec::new() }
    }

    /// Counts one more that is left out although it was wanted, and keeps its name.
    pub fn fail(&mut self, reason: Reason, source: String, message: String) {
        self.summary.leave_out(reason);
        self.problems.push(Problem { reason, source, message });
    }
}
