//! The page in parts, from top to bottom.

mod actions;
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

use leptos::prelude::expect_context;

use crate::state::App;

/// The page's state.
fn app() -> App {
    expect_context()
}
