//! An image of the person's: its tokens as a branch, what the decoder makes of them, and what the prior makes of its first rows.

use std::sync::Arc;

use dalle_shared::{GenerationRequest, ImageToken};
use leptos::prelude::*;

use super::signals::{Ask, Explain, Picture};
use crate::decoder::{DecoderInput, Study};
use crate::subject::{Origin, Subject};
use crate::ticket::Ticket;

impl Explain {
    /// Takes the person's image that was encoded, and explains it as a branch.
    pub fn take_picture(self, tokens: Vec<ImageToken>, original: Vec<u8>) -> Vec<Ask> {
        let Some(shown) = self.subject.get_untracked() else { return Vec::new() };
        let request = GenerationRequest { prefix: Vec::new(), ..shown.request.clone() };
        let ticket = Ticket::issue();
        let subject = Arc::new(Subject { ticket, request, tokens, origin: Origin::Picture });
        // One of them at a time: it takes the place of an earlier one and of what was made of that.
        self.branches.update(|branches| {
            branches.retain(|branch| !matches!(branch.origin, Origin::Picture | Origin::Continued(_)));
            branches.push(Arc::clone(&subject));
        });
        self.reconstruction.set(None);
        self.kept_rows.set((untrack(|| self.grid()) / 2).max(1));
        self.position.set(subject.tokens.len().saturating_sub(1));
        let whole = DecoderInput::Study(Study::Picture, subject.tokens.clone());
        self.picture.set(Some(Arc::new(Picture { original, subject: Arc::clone(&subject) })));
        let mut asks = self.show(subject);
        asks.push(Ask::Decoder(whole));
        asks
    }

    /// Keeps the first rows of the person's image and samples the others: a branch, with another seed each time.
    pub fn continue_picture(self) -> Vec<Ask> {
        let Some(picture) = self.picture.get_untracked() else { return Vec::new() };
        let position = self.kept_rows.get_untracked() * untrack(|| self.grid());
        let continued = |branch: &&Arc<Subject>| matches!(branch.origin, Origin::Continued(_));
        let again = self.branches.with_untracked(|branches| branches.iter().filter(continued).count());
        let request = picture.subject.continuation(position, again);
        self.position.set(picture.subject.tokens.len().saturating_sub(1));
        self.begin_branch(request, Origin::Continued(position))
    }
}
