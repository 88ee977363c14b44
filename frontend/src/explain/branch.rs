//! Branches: what the same request samples from a position on with another token there.

use std::sync::Arc;

use dalle_shared::{GenerationEvent, GenerationRequest, ImageToken, SamplingSettings};
use leptos::prelude::*;

use super::signals::{Ask, Branching, Explain};
use crate::follower::Signal as StreamSignal;
use crate::log::{Change, Log};
use crate::prior::PriorInput;
use crate::subject::{Origin, Subject};
use crate::ticket::Ticket;

impl Explain {
    /// Continues from the present position with another token there: a branch, with the settings on display.
    pub fn force(self, token: ImageToken) -> Vec<Ask> {
        let Some(subject) = self.subject.get_untracked() else { return Vec::new() };
        let position = self.position.get_untracked();
        self.begin_branch(subject.branch(position, token), Origin::Forced(position))
    }

    /// Samples a request with the settings on display, to be shown as a branch.
    pub(super) fn begin_branch(self, request: GenerationRequest, origin: Origin) -> Vec<Ask> {
        let Some((geometry, _)) = self.model.get_untracked() else { return Vec::new() };
        let mut asks = self.leave_branch();
        self.playing.set(None);
        let SamplingSettings { temperature, top_k, top_p, guidance } = self.settings.get_untracked();
        let request = GenerationRequest { temperature, top_k, top_p, guidance, ..request };
        let ticket = Ticket::issue();
        let log = Log::new(1, &geometry);
        self.branching.set(Some(Branching { ticket, request: request.clone(), origin, log }));
        asks.push(Ask::Prior(PriorInput::Begin(ticket, request)));
        asks
    }

    pub(super) fn leave_branch(self) -> Vec<Ask> {
        let mut left = None;
        self.branching.update(|branching| left = branching.take());
        left.map(|branching| Ask::Prior(PriorInput::Leave(branching.ticket))).into_iter().collect()
    }

    /// Whether the events with this ticket are those of a branch.
    pub fn is_branch(self, ticket: Ticket) -> bool {
        self.branching.with_untracked(|branching| branching.as_ref().is_some_and(|own| own.ticket == ticket))
    }

    /// Takes what happens to the events of a branch.
    pub fn branch_signal(self, signal: StreamSignal) -> Vec<Ask> {
        match signal {
            StreamSignal::Event(Ok(event)) => return self.branch_event(event),
            StreamSignal::Event(Err(why)) => self.fail(why),
            StreamSignal::Closed(Err(problem)) => self.fail(problem.sentences("").0),
            StreamSignal::Opened | StreamSignal::Alive | StreamSignal::Closed(Ok(())) => {}
        }
        Vec::new()
    }

    fn branch_event(self, event: GenerationEvent) -> Vec<Ask> {
        let mut finished = None;
        self.branching.update(|branching| {
            if let Some(branching) = branching
                && let Ok(Change::Finished { .. }) = branching.log.apply(event)
            {
                finished =
                    Some((branching.request.clone(), branching.origin, branching.log.tokens().concat()));
            }
        });
        let Some((request, origin, tokens)) = finished else { return Vec::new() };
        let request = GenerationRequest { prefix: Vec::new(), ..request };
        let branch = Arc::new(Subject { ticket: Ticket::issue(), request, tokens, origin });
        self.branches.update(|branches| branches.push(Arc::clone(&branch)));
        self.show(branch)
    }
}
