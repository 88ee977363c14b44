//! Datasets: the format of a dataset folder (`manifest.json`, `ATTRIBUTION.md` and WebDataset shards `shard-NNNNNN.tar`), and
//! reading one. The crate `dalle-prepare` writes them.
//!
//! - [`TrainingData`] and its [`Reader`]: batches for training, streamed with bounded memory
//! - [`Shards`]: one record after the other, for conversions
//! - [`Dataset`]: random access, for evaluation

mod apart;
mod captions;
mod dataset;
mod error;
mod image_index;
mod location;
mod log_line;
mod manifest;
mod mixture;
mod order;
mod png;
pub mod random;
mod reader;
mod record;
mod relation;
mod shard;
mod shards;
mod source;
mod stream;
mod tokens;
mod training_data;

pub use apart::check_apart;
pub use captions::{Captions, bare};
pub use dataset::{Dataset, Example};
pub use error::{DataError, read_json};
pub use image_index::ImageIndex;
pub use log_line::log_line;
pub use manifest::{FORMAT, MANIFEST, Manifest, Options};
pub use png::encode_png;
pub use reader::{Item, Reader, Share};
pub use record::{HeldOut, Record, Split, Subset, concept_of, hash_fraction};
pub use relation::Relation;
pub use shard::{Entry, Shard, ShardInfo, ShardWriter, sanitise_key};
pub use shards::Shards;
pub use source::{PackageInfo, Problem, Reason, SourceInfo, SourceSummary};
pub use tokens::TokenFormat;
pub use training_data::TrainingData;
