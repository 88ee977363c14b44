//! Building datasets, from packages of drawings or a folder of images with captions to WebDataset shards; and training the
//! caption tokenizer.
//!
//! ```text
//! npm packages ─▶ EmojiPackages (family, package, emojibase, iconify, emoji) ┐
//!                                                                            ├─ Source ─▶ render ─▶ build ─▶ dataset folder
//! folder of images ─▶ ImageFolder ───────────────────────────────────────────┘
//! ```
//!
//! See [`build`](build::build). The crate `dalle-data` reads what is written here. A new kind of input is a new [`Source`].

mod attribution;
mod background;
mod build;
mod colour;
mod drawing;
mod emoji;
mod emojibase;
mod family;
pub mod fetch;
mod folder;
mod from_recipe;
mod held_out;
mod iconify;
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
pub use folder::ImageFolder;
pub use from_recipe::build_recipe;
pub use recipe::{Client, Package, Recipe};
pub use render::{Art, Turn};
pub use source::{Input, LeftOut, RawExample, Source};
