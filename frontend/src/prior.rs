//! The prior in this browser, as a state machine: its worker's life, the generations that it samples, and what it explains.
//!
//! [`Prior::on`] takes a [`PriorInput`] and returns the [`PriorEffect`]s that the caller executes. A generation is read like an event
//! stream of a server: its events arrive as [`Signal`]s with its ticket. The worker starts with the first command.

use dalle_shared::{EventKind, GenerationRequest, PriorCommand, PriorReport, WorkerFailure, WorkerPart};

use crate::follower::Signal;
use crate::problem::Problem;
use crate::ticket::Ticket;

/// Where the prior stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorState {
    /// Not needed yet, or failed.
    #[default]
    Absent,
    /// Downloading.
    Loading {
        /// What.
        part: WorkerPart,
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// Ready.
    Ready,
}

/// What happened.
#[derive(Debug)]
pub enum PriorInput {
    /// Events of this request are wanted.
    Begin(Ticket, GenerationRequest),
    /// They are no longer wanted.
    Leave(Ticket),
    /// An explanation is wanted.
    Ask(PriorCommand),
    /// A worker reports.
    Report {
        /// Which worker.
        worker: u64,
        /// What it says.
        report: PriorReport,
    },
}

/// What the caller must do.
#[derive(Debug, PartialEq)]
pub enum PriorEffect {
    /// Start a worker in place of the present one. Its reports carry this number.
    StartWorker(u64),
    /// Send a command to it.
    Send(PriorCommand),
    /// End it.
    EndWorker,
    /// Something happened to the events of a generation.
    Signal(Ticket, Signal),
    /// An answer to what was asked.
    Explained(PriorReport),
    /// What was asked is not answered, for this reason.
    Unexplained(String),
}

/// The prior as the page knows it.
#[derive(Debug, Default)]
pub struct Prior {
    state: PriorState,
    /// Number of the latest worker.
    worker: u64,
    /// Whether it lives.
    alive: bool,
    /// Generations whose events are wanted.
    wanted: Vec<Ticket>,
    /// Commands that wait until the worker is ready.
    waiting: Vec<PriorCommand>,
}

impl Prior {
    /// Where the prior stands.
    pub fn state(&self) -> PriorState {
        self.state
    }

    /// Takes an input.
    pub fn on(&mut self, input: PriorInput) -> Vec<PriorEffect> {
        let mut effects = Vec::new();
        match input {
            PriorInput::Begin(ticket, request) => {
                self.wanted.push(ticket);
                self.command(PriorCommand::Generate { ticket: ticket.number(), request }, &mut effects);
            }
            PriorInput::Leave(ticket) => self.leave(ticket, &mut effects),
            PriorInput::Ask(command) => self.command(command, &mut effects),
            PriorInput::Report { worker, report } if self.alive && worker == self.worker => {
                self.report(report, &mut effects);
            }
            PriorInput::Report { .. } => {}
        }
        effects
    }

    /// Sends a command, as soon as there is a worker that is ready.
    fn command(&mut self, command: PriorCommand, effects: &mut Vec<PriorEffect>) {
        if self.state == PriorState::Ready {
            return effects.push(PriorEffect::Send(command));
        }
        self.waiting.push(command);
        if !self.alive {
            self.alive = true;
            self.worker += 1;
            self.state = PriorState::Loading { part: WorkerPart::Program, loaded: 0, total: None };
            effects.push(PriorEffect::StartWorker(self.worker));
        }
    }

    fn leave(&mut self, ticket: Ticket, effects: &mut Vec<PriorEffect>) {
        let wanted = self.wanted.len();
        self.wanted.retain(|other| *other != ticket);
        if self.wanted.len() == wanted {
            return;
        }
        let number = ticket.number();
        let waiting = self.waiting.len();
        self.waiting
            .retain(|command| !matches!(command, PriorCommand::Generate { ticket, .. } if *ticket == number));
        if self.waiting.len() == waiting {
            effects.push(PriorEffect::Send(PriorCommand::Cancel { ticket: number }));
        }
    }

    fn report(&mut self, report: PriorReport, effects: &mut Vec<PriorEffect>) {
        match report {
            PriorReport::Progress { part, loaded, total } => {
                self.state = PriorState::Loading { part, loaded, total };
                // A slow download is not a lost connection.
                effects.extend(self.wanted.iter().map(|ticket| PriorEffect::Signal(*ticket, Signal::Alive)));
            }
            PriorReport::Ready => {
                self.state = PriorState::Ready;
                effects.extend(self.waiting.drain(..).map(PriorEffect::Send));
            }
            PriorReport::Event { ticket: number, event } => {
                let wanted = self.wanted.iter().find(|wanted| wanted.number() == number);
                let Some(&ticket) = wanted else { return };
                let signal = match event.kind {
                    EventKind::Failed { error } => {
                        Signal::Closed(Err(Problem::Prior(WorkerFailure::Fault, error.message)))
                    }
                    _ => Signal::Event(Ok(event)),
                };
                effects.push(PriorEffect::Signal(ticket, signal));
            }
            PriorReport::Traced { .. }
            | PriorReport::Choices { .. }
            | PriorReport::Attention { .. }
            | PriorReport::NotTraced { .. } => {
                effects.push(PriorEffect::Explained(report));
            }
            PriorReport::Failed { reason, message } => {
                self.state = PriorState::Absent;
                self.alive = false;
                self.waiting.clear();
                effects.push(PriorEffect::EndWorker);
                for ticket in self.wanted.drain(..) {
                    let problem = Problem::Prior(reason, message.clone());
                    effects.push(PriorEffect::Signal(ticket, Signal::Closed(Err(problem))));
                }
                effects.push(PriorEffect::Unexplained(message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::{ApiError, ErrorCode, GenerationEvent, Seed};

    use super::*;

    fn request() -> GenerationRequest {
        GenerationRequest {
            model: "m".into(),
            text: Vec::new(),
            samples: 1,
            best_of: None,
            seed: Seed(1),
            temperature: 1.0,
            top_k: None,
            top_p: None,
            guidance: 1.0,
            prefix: Vec::new(),
        }
    }

    fn report(prior: &mut Prior, report: PriorReport) -> Vec<PriorEffect> {
        prior.on(PriorInput::Report { worker: 1, report })
    }

    fn event(ticket: Ticket, kind: EventKind) -> PriorReport {
        PriorReport::Event { ticket: ticket.number(), event: GenerationEvent { seq: 0, kind } }
    }

    #[test]
    fn a_request_waits_until_the_worker_is_ready_and_one_that_was_left_is_never_sent() {
        let mut prior = Prior::default();
        let (first, second) = (Ticket::issue(), Ticket::issue());
        assert_eq!(prior.on(PriorInput::Begin(first, request())), [PriorEffect::StartWorker(1)]);
        assert_eq!(prior.on(PriorInput::Leave(first)), []);
        assert_eq!(prior.on(PriorInput::Begin(second, request())), []);
        let generate = PriorCommand::Generate { ticket: second.number(), request: request() };
        assert_eq!(report(&mut prior, PriorReport::Ready), [PriorEffect::Send(generate)]);
        assert_eq!(prior.state(), PriorState::Ready);
        let started = GenerationEvent { seq: 0, kind: EventKind::Started };
        let signal = PriorEffect::Signal(second, Signal::Event(Ok(started)));
        assert_eq!(report(&mut prior, event(second, EventKind::Started)), [signal]);
        let cancel = PriorEffect::Send(PriorCommand::Cancel { ticket: second.number() });
        assert_eq!(prior.on(PriorInput::Leave(second)), [cancel]);
        assert_eq!(report(&mut prior, event(second, EventKind::Started)), [], "it is no longer wanted");
    }

    #[test]
    fn a_worker_that_fails_ends_its_generations_and_the_next_command_starts_another() {
        let mut prior = Prior::default();
        let ticket = Ticket::issue();
        prior.on(PriorInput::Begin(ticket, request()));
        let (reason, message) = (WorkerFailure::Download, "m".to_owned());
        let problem = Problem::Prior(reason, message.clone());
        let effects = report(&mut prior, PriorReport::Failed { reason, message: message.clone() });
        let closed = PriorEffect::Signal(ticket, Signal::Closed(Err(problem)));
        assert_eq!(effects, [PriorEffect::EndWorker, closed, PriorEffect::Unexplained(message)]);
        let trace = PriorCommand::Trace { ticket: 1, request: request() };
        assert_eq!(prior.on(PriorInput::Ask(trace)), [PriorEffect::StartWorker(2)]);
        assert_eq!(report(&mut prior, PriorReport::Ready), [], "a report of the first worker");
    }

    #[test]
    fn a_request_that_the_prior_refuses_is_a_problem_of_this_browser() {
        let mut prior = Prior::default();
        let ticket = Ticket::issue();
        prior.on(PriorInput::Begin(ticket, request()));
        report(&mut prior, PriorReport::Ready);
        let error = ApiError { code: ErrorCode::InvalidRequest, message: "m".into(), field: None };
        let closed = Signal::Closed(Err(Problem::Prior(WorkerFailure::Fault, "m".into())));
        assert_eq!(
            report(&mut prior, event(ticket, EventKind::Failed { error })),
            [PriorEffect::Signal(ticket, closed)]
        );
    }
}
