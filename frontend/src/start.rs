//! What pictures begin with (section 3.3 of the paper): the first rows of a picture of the person's own, of one drawn before,
//! or of a link.

use std::sync::Arc;

use dalle_shared::{ImageToken, check_prefix};
use leptos::prelude::*;
use web_sys::File;

use crate::state::{App, Shown};
use crate::{browser, decoding, generation};

/// The beginning, one of the inputs.
#[derive(Clone, Copy)]
pub struct Start {
    /// Tokens of a whole picture, or of its first rows where a link brought no more. Empty: pictures begin from nothing.
    pub tokens: RwSignal<Vec<ImageToken>>,
    /// Rows of it that are kept.
    pub rows: RwSignal<usize>,
    /// What the decoder makes of it.
    pub shown: RwSignal<Option<Arc<Shown>>>,
    /// A picture that is on its way to becoming tokens.
    pub reading: RwSignal<Option<Reading>>,
}

/// How far a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The encoder is being downloaded.
    Fetching {
        /// Bytes that came.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// With the decoder worker, or waiting for it.
    Encoding,
}

impl Start {
    /// From nothing.
    pub fn new() -> Self {
        Self {
            tokens: RwSignal::new(Vec::new()),
            rows: RwSignal::new(0),
            shown: RwSignal::new(None),
            reading: RwSignal::new(None),
        }
    }

    /// The tokens that the next pictures begin with.
    pub fn prefix(self, grid: usize) -> Vec<ImageToken> {
        self.tokens
            .with_untracked(|tokens| tokens[..tokens.len().min(self.rows.get_untracked() * grid)].to_vec())
    }

    /// Most rows that can be kept, so that something is left to draw.
    pub fn most_rows(self, grid: usize) -> usize {
        self.tokens.with(|tokens| tokens.len() / grid).min(grid.saturating_sub(1))
    }
}

/// Begins with `rows` rows of these tokens.
fn keep(app: App, tokens: Vec<ImageToken>, rows: usize) {
    let start = app.form.start;
    decoding::drop_picture(app);
    start.shown.set(None);
    start.rows.set(rows);
    start.tokens.set(tokens);
    decoding::draw(app);
}

/// Begins with nothing.
pub fn clear(app: App) {
    keep(app, Vec::new(), 0);
}

/// Turns a picture of the person's own into tokens. It goes to the decoder worker and nowhere else.
pub fn read(app: App, file: File) {
    decoding::encode(app, file);
}

/// Takes the tokens of a picture that was read. Half of its rows stay, until the person chooses; the paper keeps 15 of 32.
pub fn came(app: App, tokens: Vec<ImageToken>) {
    let Some(grid) = grid(app) else { return };
    keep(app, tokens, (grid / 2).max(1));
}

/// Takes the beginning that a link brought. Returns whether it fits the model; if not, pictures begin with nothing.
pub fn restore(app: App, tokens: Vec<ImageToken>) -> bool {
    let geometry = app.model.with_untracked(|model| model.as_ref().map(|model| model.manifest.geometry));
    match geometry {
        Some(geometry)
            if tokens.len().is_multiple_of(geometry.grid) && check_prefix(&tokens, &geometry).is_ok() =>
        {
            let rows = tokens.len() / geometry.grid;
            keep(app, tokens, rows);
            true
        }
        _ => {
            clear(app);
            false
        }
    }
}

/// Draws everything behind the first `rows` rows of a picture anew: the rest as the form says, with another seed.
///
/// # Errors
/// The input that must change first, in a sentence.
pub fn draw_again(app: App, tokens: Vec<ImageToken>, rows: usize) -> Result<(), String> {
    keep(app, tokens, rows);
    app.form.seed.set(browser::random_seed().to_string());
    generation::generate(app)
}

fn grid(app: App) -> Option<usize> {
    app.model.with_untracked(|model| model.as_ref().map(|model| model.manifest.geometry.grid))
}
