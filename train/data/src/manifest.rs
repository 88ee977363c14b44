//! `manifest.json` of a dataset folder: what is in it, how it was made, and the hashes that prove it whole.

use serde::{Deserialize, Serialize};

use super::shard::ShardInfo;
use super::source::{Problem, SourceSummary};

/// Name of the file; its presence marks a folder as a dataset.
pub const MANIFEST: &str = "manifest.json";

/// Version of the folder's layout.
pub const FORMAT: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Side of every picture in pixels.
    pub image_size: u32,
    /// Pictures, trained on and held out.
    pub records: usize,
    /// Pictures trained on.
    pub train: usize,
    /// Pictures held out.
    pub val: usize,
    /// How it was made.
    pub options: Options,
    /// Where the pictures come from.
    pub sources: Vec<SourceSummary>,
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
    /// Wanted pictures that could not be used, by name.
    pub problems: Vec<Problem>,
}

/// The options that determine a dataset's bytes, beside its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Side of every picture in pixels.
    pub size: u32,
    /// Most pictures in a shard.
    pub shard_size: usize,
    /// Coloured backgrounds for each drawing, beside the white one.
    pub backgrounds: usize,
    /// Share of concepts held out.
    pub val_share: f64,
    /// Decides the order of pictures and the choice of backgrounds.
    pub seed: u64,
}
