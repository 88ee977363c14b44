//! Training sets: from packages of drawings, or a folder of pictures with captions, to WebDataset shards; and the caption
//! tokenizer.
//!
//! ```text
//! packages ─ family, package, emojibase, iconify, emoji ┐
//!                                                       ├─ source ─ render ─ build ─▶ dataset folder
//! folder of pictures ─ folder ──────────────────────────┘
//! ```
//!
//! See [`build`](build::build). The crate `dalle-data` reads what is written here.

mod attribution;
mod background;
mod build;
mod emoji;
mod emojibase;
mod family;
mod folder;
mod iconify;
mod package;
mod render;
mod source;
mod svg;
pub mod tokenizer_train;

pub use build::{Input, build};
pub use family::{FAMILIES, Family};
