//! Training sets: from packages of drawings, or a folder of pictures with captions, to WebDataset shards; and back into
//! memory for training.
//!
//! ```text
//! packages ─ family, package, emojibase, iconify, emoji ┐
//!                                                       ├─ source ─ render ─ shard ─ publish ─▶ dataset folder ─ dataset ─▶ training
//! folder of pictures ─ folder ──────────────────────────┘
//! ```
//!
//! A dataset folder holds `manifest.json`, `ATTRIBUTION.md` and `shard-NNNNNN.tar`; see [`build`](build::build) and
//! [`Dataset::open`].

mod attribution;
mod background;
mod build;
mod dataset;
mod emoji;
mod emojibase;
mod error;
mod family;
mod folder;
mod iconify;
mod manifest;
mod package;
mod publish;
mod record;
mod render;
mod shard;
mod sheet;
mod source;

pub use build::{Input, build};
pub use dataset::{Dataset, Example};
pub use error::DataError;
pub use family::{FAMILIES, Family};
pub use manifest::{MANIFEST, Manifest, Options};
pub use package::PackageInfo;
pub use publish::{NewFolder, try_to_write, write_file, write_png};
pub use record::{Captions, Record, Split};
pub use shard::{ShardInfo, sanitise_key};
pub use sheet::{Cell, contact_sheet};
pub use source::{Problem, Reason, SourceSummary};
