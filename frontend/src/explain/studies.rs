//! What the decoder is asked to explain an image, and its answers.

use std::sync::Arc;

use dalle_shared::{Geometry, ImageToken};
use leptos::prelude::*;

use super::signals::{Ask, DecoderView, Explain, Lens};
use crate::codebook;
use crate::decoder::{DecoderInput, Study};
use crate::schedule::fill;
use crate::stages::Stages;

impl Explain {
    /// Replaces the token at the present position in the picture alone, to see what it changes.
    pub fn paint(self, token: ImageToken) -> Option<Ask> {
        let mut tokens = self.subject.get_untracked()?.tokens.clone();
        *tokens.get_mut(self.position.get_untracked())? = token;
        Some(Ask::Decoder(DecoderInput::Study(Study::Painted, tokens)))
    }

    /// Asks for the stages of the decoder: of the tokens that are there, or of the whole image with the token that is there and with
    /// another.
    pub(super) fn ask_stages(self) -> Vec<Ask> {
        let Some(subject) = self.subject.get_untracked() else { return Vec::new() };
        let position = self.position.get_untracked();
        let all = subject.tokens.len();
        let known = match self.decoder_view.get_untracked() {
            DecoderView::Stages => (position + 1).min(all),
            DecoderView::Change => all,
        };
        let mut asks = Vec::new();
        if self.stages.with_untracked(|stages| stages.as_ref().is_none_or(|stages| stages.1 != known)) {
            let tokens = fill(&subject.tokens[..known], untrack(|| self.grid()));
            asks.push(Ask::Decoder(DecoderInput::Study(Study::Stages(known), tokens)));
        }
        let code = untrack(|| self.replacement());
        if let (DecoderView::Change, Some(code)) = (self.decoder_view.get_untracked(), code) {
            let mut tokens = subject.tokens.clone();
            if let Some(token) = tokens.get_mut(position) {
                *token = code;
                asks.push(Ask::Decoder(DecoderInput::Study(Study::Changed(position, code), tokens)));
            }
        }
        asks
    }

    /// The code that takes a token's place to see what it changes: the one that a person chose, or the one that looks least like the
    /// token. None before the codebook is known.
    pub fn replacement(self) -> Option<ImageToken> {
        let position = self.position.get();
        let present = self.subject.with(|subject| subject.as_ref()?.tokens.get(position).copied())?;
        let chosen = self.code.get().filter(|code| *code != present);
        let all = self.vocab();
        chosen.or_else(|| {
            self.codebook.with(|codebook| match codebook.len() == all {
                true => codebook.least_like(present),
                false => None,
            })
        })
    }

    /// Takes the pixels of a study.
    pub fn decoded(self, study: Study, rgba: Vec<u8>) -> Vec<Ask> {
        self.take(study, rgba).unwrap_or_default()
    }

    fn take(self, study: Study, rgba: Vec<u8>) -> Option<Vec<Ask>> {
        match study {
            Study::Moment(known) => self.moment.set(Some(Arc::new((rgba, known)))),
            Study::Whole => self.whole.set(Some(Arc::new(rgba))),
            Study::Picture => self.reconstruction.set(Some(Arc::new(rgba))),
            Study::Painted => self.painted.set(Some(Arc::new(rgba))),
            Study::Stages(known) => {
                let stages = Stages::new(rgba, untrack(|| self.grid()))?;
                self.stages.set(Some(Arc::new((stages, known))));
            }
            Study::Changed(position, code) => {
                let stages = Stages::new(rgba, untrack(|| self.grid()))?;
                self.changed.set(Some(Arc::new((stages, position, code))));
            }
            Study::Sheet(first) => {
                let (geometry, _) = self.model.get_untracked()?;
                let mut next = None;
                self.codebook.update(|codebook| {
                    if codebook.len() == first {
                        next = codebook.take(&rgba, &geometry);
                    }
                });
                return Some(match next {
                    Some(next) => vec![ask_sheet(next, &geometry)],
                    // The lens may have waited for it.
                    None if self.lens.get_untracked() == Lens::Decoder => self.ask_stages(),
                    None => Vec::new(),
                });
            }
            Study::Kept(_) => {}
        }
        None
    }
}

/// Asks for the sheet of the codebook that begins with an entry.
pub(super) fn ask_sheet(first: usize, geometry: &Geometry) -> Ask {
    Ask::Decoder(DecoderInput::Study(Study::Sheet(first), codebook::sheet(first, geometry)))
}
