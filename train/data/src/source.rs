//! The sources of a dataset, as its manifest lists them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A package as it goes into the manifest and ATTRIBUTION.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageInfo {
    /// Name on npm.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// SPDX licence: the drawings' own where the package states it, else the package's.
    pub license: String,
    /// Who made it: the drawings' author where the package states one, else its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The drawings' project where the package states one, else its own page.
    pub url: String,
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
