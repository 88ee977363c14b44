//! Where pictures come from, before rendering: what every source hands to the builder.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::package::PackageInfo;
use super::record::{Captions, Split};
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

/// Why a picture of a source is not in the dataset; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its pixels cannot be read or rendered.
    Unreadable,
    /// Its caption cannot be read.
    UnreadableCaption,
    /// Not a picture.
    NotAPicture,
    /// No label matches it, or no caption lies beside it.
    NoCaption,
    /// The same pixels with the same caption are there already.
    Duplicate,
    /// Another drawing replaced it in its set.
    Superseded,
    /// A skin-tone variant, and those were not asked for.
    SkinTone,
    /// Its group was not asked for.
    Group,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "superseded in its set",
            Self::SkinTone => "skin tone",
            Self::Group => "group not wanted",
            Self::NoCaption => "no caption",
            Self::UnreadableCaption => "caption unreadable",
            Self::Unreadable => "picture unreadable",
            Self::Duplicate => "duplicate",
            Self::NotAPicture => "not a picture",
        })
    }
}

/// A picture that is wanted but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Which kind of problem.
    pub reason: Reason,
    /// Which picture.
    pub source: String,
    /// What is wrong.
    pub message: String,
}

/// One family, or one folder of pictures, as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// The family's name; `images` for a folder.
    pub name: String,
    /// The family's word for its style.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub style: String,
    /// SPDX licence of its pictures.
    pub license: String,
    /// The package; none for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageInfo>,
    /// Drawings stored (each perhaps on several backgrounds).
    pub stored: usize,
    /// Drawings left out, by reason.
    pub left_out: BTreeMap<Reason, usize>,
}

impl SourceSummary {
    /// A source of which nothing is stored or left out yet.
    pub fn new(name: &str, style: &str, license: &str, package: Option<PackageInfo>) -> Self {
        Self {
            name: name.to_owned(),
            style: style.to_owned(),
            license: license.to_owned(),
            package,
            stored: 0,
            left_out: BTreeMap::new(),
        }
    }

    /// Counts one more that is left out.
    pub fn leave_out(&mut self, reason: Reason) {
        *self.left_out.entry(reason).or_default() += 1;
    }
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
