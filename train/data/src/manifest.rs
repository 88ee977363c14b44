//! `manifest.json` of a dataset folder: what is in it, how it was made, and the hashes of its shards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shard::ShardInfo;
use super::source::{Problem, SourceSummary};
use crate::tokens::TokenFormat;

/// Name of the file; its presence marks a folder as a dataset.
pub const MANIFEST: &str = "manifest.json";

/// Version of the folder's layout.
pub const FORMAT: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Side of every image in pixels.
    pub image_size: u32,
    /// Images of both splits.
    pub records: usize,
    /// Images of the training split.
    pub train: usize,
    /// Held-out images.
    pub val: usize,
    /// Images of each subset that has some, by its name ([`Subset`](crate::Subset)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<String, usize>,
    /// How it was made.
    pub options: Options,
    /// The recipe that it was made by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Value>,
    /// Where the images come from.
    pub sources: Vec<SourceSummary>,
    /// How the tokens were made, if the shards hold tokens instead of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenFormat>,
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
    /// Images that were wanted but cannot be used.
    pub problems: Vec<Problem>,
}

/// The options that determine a dataset's bytes, with its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Side of every image in pixels.
    pub size: u32,
    /// Most images in a shard.
    pub shard_size: usize,
    /// Coloured backgrounds for each drawing, beside the white one.
    pub backgrounds: usize,
    /// Fraction of concepts that is held out.
    pub val_share: f64,
    /// Seed of the order of images and the choice of backgrounds.
    pub seed: u64,
}
