//! One image on display, as its parts see it: canvases, buttons, and the choice of rows to keep.

use std::sync::Arc;

use dalle_shared::{Geometry, ImageMetadata, ImageToken};
use leptos::ev::MouseEvent;
use leptos::html::Canvas;
use leptos::prelude::*;

use super::text::text;
use crate::format;
use crate::session::Prompt;
use crate::shown::Shown;
use crate::state::{App, Image};

/// Handles to the signals of an image on display.
#[derive(Clone, Copy)]
pub struct Card {
    /// The page.
    pub app: App,
    /// Its number among those shown, from 1.
    pub number: Signal<usize>,
    /// Its tokens so far, in raster order.
    pub tokens: RwSignal<Vec<ImageToken>>,
    /// Its pixels so far.
    pub shown: RwSignal<Option<Arc<Shown>>>,
    /// Rows to keep when it is generated again.
    pub rows: RwSignal<usize>,
    /// Whether the person chooses these rows.
    pub choosing: RwSignal<bool>,
    /// Its index among those sampled.
    pub index: usize,
    geometry: Memo<Geometry>,
}

impl Card {
    /// The card of the image with this index, at the place `place` among those shown, from 0.
    pub fn new(app: App, place: ReadSignal<usize>, index: usize, image: Image) -> Self {
        Self {
            app,
            number: Signal::derive(move || place.get() + 1),
            tokens: RwSignal::from(image.tokens),
            shown: RwSignal::from(image.shown),
            rows: RwSignal::new(1),
            choosing: RwSignal::new(false),
            index,
            geometry: Memo::new(move |_| app.geometry()),
        }
    }

    /// Tokens along a side.
    pub fn grid(self) -> usize {
        self.geometry.get().grid
    }

    /// Pixels along a side.
    pub fn size(self) -> usize {
        self.geometry.get().image_size
    }

    /// Whether all of its pixels are final.
    pub fn is_whole(self) -> bool {
        self.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.rows == self.grid()))
    }

    /// Whether rows to keep are being chosen.
    pub fn is_choosing(self) -> bool {
        self.choosing.get() && self.is_whole()
    }

    /// Name of a part on the page.
    pub fn part(self, name: &'static str) -> Signal<String> {
        text(move || format!("{name}-{}", self.number.get()))
    }

    /// Name of a file of the image: its caption and the seed that samples it alone.
    pub fn file_name(self, extension: &str) -> String {
        self.app.displayed.with_untracked(|prompt| {
            let (caption, seed) = prompt
                .as_ref()
                .map_or(("", 0), |prompt| (prompt.caption.as_str(), prompt.seed_of(self.index).0));
            format::file_name(caption, seed, extension)
        })
    }

    /// How it was generated, for its files.
    pub fn metadata(self) -> Option<ImageMetadata> {
        let link = self.app.displayed.with_untracked(|prompt| prompt.as_ref().map(Prompt::link))?;
        let link = link.to_images(vec![(self.index, self.tokens.get_untracked())]);
        self.app.model.with_untracked(|model| Some(link.metadata(&model.as_ref()?.manifest.name)))
    }

    /// The cell of the grid at a point of a canvas, in CSS pixels: row and column.
    pub fn cell(self, canvas: &web_sys::HtmlCanvasElement, (x, y): (i32, i32)) -> (usize, usize) {
        let grid = self.grid();
        let cell = |at: i32, side: i32| {
            (at.max(0) as usize * grid / side.max(1) as usize).min(grid.saturating_sub(1))
        };
        (cell(y, canvas.client_height()), cell(x, canvas.client_width()))
    }

    /// While rows are chosen: keeps the rows down to the one that was clicked.
    pub fn choose_row(self, event: &MouseEvent, canvas: NodeRef<Canvas>) {
        if let Some(canvas) = canvas.get_untracked().filter(|_| untrack(|| self.is_choosing())) {
            let (row, _) = untrack(|| self.cell(&canvas, (event.offset_x(), event.offset_y())));
            self.rows.set((row + 1).min(untrack(|| self.grid()).saturating_sub(1)).max(1));
        }
    }
}
