//! Building datasets, from packages of drawings or images with captions to WebDataset shards; and training the
//! caption tokenizer.
//!
//! ```text
//! npm packages ─▶ EmojiPackages (family, package, emojibase, iconify, emoji) ┐
//!                                                                            ├─ Source ─▶ render ─▶ build ─▶ dataset folder
//! images and captions ─▶ ImageFiles (images/) ───────────────────────────────┘
//! ```
//!
//! See [`build`](build::build). The crate `dalle-data` reads what is written here. A new kind of input is a new [`Source`].

mod attribution;
mod background;
mod budget;
mod build;
mod colour;
mod content;
mod drawing;
mod emoji;
mod emojibase;
mod family;
pub mod fetch;
mod from_recipe;
mod held_out;
mod iconify;
mod images;
mod keys;
mod names;
mod package;
mod recipe;
mod render;
mod scene;
mod source;
mod store;
mod svg;
pub mod tokenizer_train;
mod vocabulary;

pub use build::build;
pub use emoji::EmojiPackages;
pub use family::{FAMILIES, Family};
pub use from_recipe::build_recipe;
pub use images::ImageFiles;
pub use recipe::{Client, Package, Recipe};
pub use render::{Art, Turn};
pub use source::{Input, LeftOut, RawExample, Source};
