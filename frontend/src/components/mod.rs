//! The page in parts, from top to bottom.

mod about;
mod buttons;
mod candidates;
mod caption;
mod card;
mod chips;
mod choose_file;
mod compare;
mod copied;
mod decoder_chip;
mod decoder_text;
mod explain;
mod gallery;
mod header;
mod history;
mod learned;
mod messages;
mod page;
mod picture;
mod pipeline;
mod place;
mod prefix;
mod progress;
mod regenerate;
mod rows;
mod save;
mod seed;
mod settings;
mod start;
mod status;
mod text;
mod upload;

pub use page::Page;
