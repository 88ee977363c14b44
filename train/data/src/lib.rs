//! Datasets: the format of a dataset folder (`manifest.json`, `ATTRIBUTION.md` and WebDataset shards `shard-NNNNNN.tar`), and
//! reading one for training. The crate `dalle-prepare` writes them.

mod dataset;
mod error;
mod image_file;
mod manifest;
mod record;
mod say;
mod shard;
mod source;

pub use dataset::{Dataset, Example};
pub use error::{DataError, read_json};
pub use image_file::{ImageFileError, decode_image, read_image, read_regular_file};
pub use manifest::{FORMAT, MANIFEST, Manifest, Options};
pub use record::{Captions, Record, Split, concept_of};
pub use say::say;
pub use shard::{ShardInfo, ShardWriter, sanitise_key};
pub use source::{PackageInfo, Problem, Reason, SourceInfo, SourceSummary};
