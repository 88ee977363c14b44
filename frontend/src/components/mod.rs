//! The page in parts, from top to bottom.

mod buttons;
mod candidates;
mod caption;
mod chips;
mod gallery;
mod header;
mod messages;
mod page;
mod picture;
mod pipeline;
mod progress;
mod redraw;
mod rows;
mod settings;
mod start;
mod status;

pub use page::Page;
