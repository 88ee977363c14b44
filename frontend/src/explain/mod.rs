//! Explaining an image: its timeline, and what the page shows about the position on it.
//!
//! [`Explain`] holds the signals. Its methods are what a person does and what the workers answer; they return what the workers are
//! to be asked. Everything but the probabilities needs the decoder alone; those need the prior in this browser.

mod branch;
mod picture;
mod signals;
mod studies;

use std::sync::Arc;

use dalle_shared::{Geometry, PriorCommand, PriorReport};
use leptos::prelude::*;

pub use self::signals::{Ask, Colouring, DecoderView, Explain, Lens, SPEEDS};
use crate::decoder::{DecoderInput, Study};
use crate::prior::PriorInput;
use crate::schedule::fill;
use crate::subject::Subject;

/// Tokens that the probabilities list.
const LISTED: usize = 12;

impl Explain {
    /// Explains an image.
    pub fn open(self, subject: Subject, geometry: Geometry, prior_is_here: bool) -> Vec<Ask> {
        self.model.set(Some((geometry, prior_is_here)));
        self.settings.set(subject.request.sampling());
        self.position.set(subject.tokens.len().saturating_sub(1));
        let subject = Arc::new(subject);
        self.branches.set(vec![Arc::clone(&subject)]);
        self.picture.set(None);
        self.reconstruction.set(None);
        let mut asks = self.show(subject);
        if self.codebook.with_untracked(|codebook| codebook.len() == 0) {
            asks.push(studies::ask_sheet(0, &geometry));
        }
        asks
    }

    /// Shows the images again.
    pub fn close(self) -> Vec<Ask> {
        self.playing.set(None);
        self.presenting.set(false);
        self.subject.set(None);
        self.leave_branch()
    }

    /// Shows an image or a branch of it, at the same position.
    pub fn show(self, subject: Arc<Subject>) -> Vec<Ask> {
        let mut asks = self.leave_branch();
        self.steps.set(Vec::new());
        self.choices.set(None);
        self.attention.set(None);
        self.attending.set(false);
        self.painted.set(None);
        self.stages.set(None);
        self.changed.set(None);
        self.failure.set(None);
        asks.push(Ask::Decoder(DecoderInput::Study(Study::Whole, subject.tokens.clone())));
        if untrack(|| self.has_prior()) {
            let command = PriorCommand::Trace { ticket: subject.ticket.number(), request: subject.reading() };
            asks.push(Ask::Prior(PriorInput::Ask(command)));
        }
        self.subject.set(Some(subject));
        asks.extend(self.refresh());
        asks
    }

    /// Goes to a position.
    pub fn go(self, position: usize) -> Vec<Ask> {
        let last = untrack(|| self.length()).saturating_sub(1);
        self.position.set(position.min(last));
        self.painted.set(None);
        self.refresh()
    }

    /// Whether the newest token is the last one.
    pub fn is_at_end(self) -> bool {
        self.position.get_untracked() + 1 >= untrack(|| self.length())
    }

    /// Asks for what the present position shows.
    fn refresh(self) -> Vec<Ask> {
        let Some(subject) = self.subject.get_untracked() else { return Vec::new() };
        let known = &subject.tokens[..(self.position.get_untracked() + 1).min(subject.tokens.len())];
        let moment = fill(known, untrack(|| self.grid()));
        let mut asks = vec![Ask::Decoder(DecoderInput::Study(Study::Moment(known.len()), moment))];
        asks.extend(self.ask_lens());
        asks
    }

    /// Asks for what the lens on display shows of the present position.
    pub fn ask_lens(self) -> Vec<Ask> {
        match self.lens.get_untracked() {
            Lens::Probabilities | Lens::Attention => self.ask_prior().into_iter().collect(),
            Lens::Decoder => self.ask_stages(),
            Lens::Codebook | Lens::Picture => Vec::new(),
        }
    }

    fn ask_prior(self) -> Option<Ask> {
        let subject = self.subject.get_untracked()?;
        let failed = self.failure.with_untracked(Option::is_some);
        if failed || !untrack(|| self.has_prior()) {
            return None;
        }
        let (ticket, position) = (subject.ticket.number(), self.position.get_untracked());
        let command = match self.lens.get_untracked() {
            Lens::Probabilities => {
                let settings = self.settings.get_untracked();
                PriorCommand::Choices { ticket, position, settings, most: LISTED }
            }
            Lens::Attention if self.attending.get_untracked() => return None,
            Lens::Attention => {
                self.attending.set(true);
                PriorCommand::Attend { ticket, position, layer: self.layer.get_untracked() }
            }
            Lens::Decoder | Lens::Codebook | Lens::Picture => return None,
        };
        Some(Ask::Prior(PriorInput::Ask(command)))
    }

    /// Takes an answer of the prior.
    pub fn explained(self, report: PriorReport) -> Option<Ask> {
        let is_own = |number: u64| {
            self.subject.with_untracked(|own| own.as_ref().is_some_and(|own| own.ticket.number() == number))
        };
        match report {
            PriorReport::Traced { ticket, start, steps } if is_own(ticket) => self.steps.update(|all| {
                if all.len() == start {
                    all.extend(steps);
                }
            }),
            PriorReport::Choices { ticket, position, settings, choices }
                if is_own(ticket) && settings == self.settings.get_untracked() =>
            {
                self.choices.set(Some((position, choices)));
            }
            PriorReport::Attention { ticket, position, layer, attention } if is_own(ticket) => {
                self.attention.set(Some(Arc::new((position, layer, attention))));
                self.attending.set(false);
                // Meanwhile the person may have gone on.
                if (position, layer) != (self.position.get_untracked(), self.layer.get_untracked()) {
                    return self.ask_prior();
                }
            }
            PriorReport::NotTraced { ticket, message } if is_own(ticket) => self.fail(message),
            _ => {}
        }
        None
    }

    /// The prior cannot say more.
    pub fn fail(self, why: String) {
        self.branching.set(None);
        self.attending.set(false);
        if self.subject.with_untracked(Option::is_some) {
            self.failure.set(Some(why));
        }
    }
}
