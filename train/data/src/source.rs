//! The sources of a dataset, as its manifest lists them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A package as the manifest and ATTRIBUTION.md name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageInfo {
    /// Name on npm.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// SPDX licence: that of the drawings if the package states it, else that of the package.
    pub license: String,
    /// Author: that of the drawings if the package states one, else its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Project of the drawings if the package states one, else the page of the package.
    pub url: String,
}

/// Why an image of a source is not in the dataset; the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its pixels cannot be read or rendered.
    Unreadable,
    /// Its caption cannot be read.
    UnreadableCaption,
    /// It has no caption.
    NoCaption,
    /// A caption whose image is missing.
    NoImage,
    /// The same pixels with the same caption are stored already.
    Duplicate,
    /// Another drawing replaced it in its set.
    Superseded,
    /// A skin-tone variant, and those were not asked for.
    SkinTone,
    /// Its group was not asked for.
    Group,
    /// The recipe lists no name that is true of it.
    NoName,
    /// The recipe uses only a share of its group or source.
    Weight,
    /// A file that is no image.
    NotAPicture,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "superseded in its set",
            Self::SkinTone => "skin tone",
            Self::Group => "group not wanted",
            Self::NoCaption => "no caption",
            Self::NoImage => "caption without an image",
            Self::UnreadableCaption => "caption unreadable",
            Self::Unreadable => "image unreadable",
            Self::Duplicate => "duplicate",
            Self::NoName => "no name",
            Self::Weight => "beyond its share",
            Self::NotAPicture => "not an image",
        })
    }
}

/// An image that is wanted but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Kind of problem.
    pub reason: Reason,
    /// Which image.
    pub source: String,
    /// What is wrong.
    pub message: String,
}

/// What a source says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Its name, unique in the dataset: that of an emoji family, or `images` for a folder.
    pub name: String,
    /// SPDX licence of its images.
    pub license: String,
    /// The package that it comes from, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageInfo>,
    /// The package that its captions come from, if they are not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captions: Option<PackageInfo>,
    /// The options that decide which of its images are wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
}

/// A source with what became of its images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// What it says of itself.
    #[serde(flatten)]
    pub info: SourceInfo,
    /// Images stored (each perhaps on several backgrounds).
    pub stored: usize,
    /// Images of each kind, such as `drawing`, `background` and `pair`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, usize>,
    /// Images left out, by reason.
    pub left_out: BTreeMap<Reason, usize>,
    /// Files that are no images, by ending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_files: BTreeMap<String, usize>,
    /// Stored images that have fewer pixels in their files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub enlarged: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}
