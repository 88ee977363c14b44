//! A generation from the request to its last token, as a state machine.
//!
//! [`Generation::on`] takes a [`GenerationInput`] and returns the [`GenerationEffect`]s that the caller executes. It knows no network, clock or page:
//! the caller tells the time, and answers by further inputs with the ticket of the effect. Answers that come too late are ignored.
//! [`Follower`] reads the event stream.

mod messages;

use dalle_shared::{GenerationCreated, Geometry, ImageToken};

pub use self::messages::{GenerationEffect, GenerationInput};
use crate::follower::{Follower, Step};
use crate::log::{Change, Log};
use crate::packing::{pack, unpack};
use crate::place::Place;
use crate::problem::Problem;
use crate::ranking::Ranking;
use crate::session::{Prompt, SavedResult, Session};
use crate::ticket::Ticket;

/// When the place in the server's queue is first asked for: most generations begin before that.
const FIRST_PLACE_MS: f64 = 700.0;
/// How often it is asked for then.
const PLACE_MS: f64 = 2_000.0;
/// How often the clock on the page moves.
const TICK_MS: f64 = 100.0;
/// The rate is shown when the engine has worked for so long.
const RATE_AFTER_MS: f64 = 300.0;

/// Where the latest generation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is none.
    #[default]
    Idle,
    /// Asked for, but not begun.
    Queued,
    /// Tokens arrive.
    Running,
    /// All tokens are here.
    Complete,
    /// Cancelled by the person, or by the server because it was not followed.
    Cancelled,
    /// Ended by a problem.
    Failed,
}

/// Numbers of the latest generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Tokens received, of all images.
    pub tokens: usize,
    /// Tokens expected, of all images.
    pub total: usize,
    /// Seconds since it was asked for.
    pub seconds: f64,
    /// Tokens per second of the engine.
    pub rate: Option<f64>,
    /// Generations before it in the server's queue, where that is known.
    pub before: Option<usize>,
}

/// What was asked of the server last.
#[derive(Clone, Debug)]
struct Asked {
    prompt: Prompt,
    /// When (milliseconds since 1970).
    at: f64,
    /// The answer that is waited for, or the time at which a busy server is asked again.
    ticket: Option<Ticket>,
}

/// The latest generation, and the images on display. Those are of an earlier generation until the server accepts the latest.
#[derive(Debug)]
pub struct Generation {
    geometry: Geometry,
    stage: Stage,
    problem: Option<Problem>,
    tally: Tally,
    asked: Option<Asked>,
    /// The generation on the server.
    session: Option<Session>,
    displayed: Option<Prompt>,
    follower: Follower,
    ranking: Ranking,
    /// If the server has forgotten the generation, the request is sent again.
    renew: bool,
    clock: Option<Ticket>,
    /// The next question for the place in the queue, or its answer.
    place: Option<Ticket>,
}

impl Generation {
    /// No generation, of a model with this geometry.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            stage: Stage::Idle,
            problem: None,
            tally: Tally::default(),
            asked: None,
            session: None,
            displayed: None,
            follower: Follower::complete(Log::new(0, &geometry)),
            ranking: Ranking::default(),
            renew: false,
            clock: None,
            place: None,
        }
    }

    /// Where the latest generation stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What went wrong.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Whether the connection is lost and is being tried again.
    pub fn is_reconnecting(&self) -> bool {
        self.follower.is_reconnecting()
    }

    /// Its numbers.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What the images on display were asked for.
    pub fn displayed(&self) -> Option<&Prompt> {
        self.displayed.as_ref()
    }

    /// Tokens of each image on display, in raster order.
    pub fn tokens(&self) -> &[Vec<ImageToken>] {
        self.follower.log().tokens()
    }

    /// Order and choice of the images on display.
    pub fn ranking(&self) -> &Ranking {
        &self.ranking
    }

    /// Takes an input at time `now` (milliseconds since 1970).
    pub fn on(&mut self, now: f64, input: GenerationInput) -> Vec<GenerationEffect> {
        let mut effects = Vec::new();
        match input {
            GenerationInput::Begin(prompt) => self.begin(now, prompt, &mut effects),
            GenerationInput::Restore(prompt, session) => self.restore(now, prompt, session, &mut effects),
            GenerationInput::Again => self.again(now, &mut effects),
            GenerationInput::Reconnect => self.reconnect(now, &mut effects),
            GenerationInput::Stop => {
                self.leave(&mut effects);
                self.stage = Stage::Cancelled;
                effects.push(GenerationEffect::Forget);
            }
            GenerationInput::Clear => {
                self.leave(&mut effects);
                self.stage = Stage::Idle;
                self.displayed = None;
                self.asked = None;
                self.tally = Tally::default();
                effects.extend([GenerationEffect::Forget, GenerationEffect::Display]);
            }
            GenerationInput::Prefer(image) => {
                self.ranking.prefer(image);
                effects.push(GenerationEffect::ShowRanking);
                let preferred = self.ranking.preferred().to_vec();
                self.store(&mut effects, |session| session.preferred = preferred);
            }
            GenerationInput::Created(ticket, answer) => self.created(now, ticket, answer, &mut effects),
            GenerationInput::Signal(ticket, signal) => {
                let step = self.follower.signal(now, ticket, signal);
                self.follow(now, step, &mut effects);
            }
            GenerationInput::Elapsed(ticket) if self.clock == Some(ticket) => {
                self.tick(now);
                self.run_clock(&mut effects);
            }
            GenerationInput::Elapsed(ticket) if self.place == Some(ticket) => {
                let session = self.session.as_ref().filter(|_| self.stage == Stage::Queued);
                effects.extend(
                    session.map(|session| GenerationEffect::AskPlace(ticket, session.created.id.clone())),
                );
            }
            GenerationInput::Place(ticket, before) if self.place == Some(ticket) => {
                self.tally.before = before.filter(|_| self.stage == Stage::Queued);
                self.watch_place(PLACE_MS, &mut effects);
            }
            GenerationInput::Place(..) => {}
            GenerationInput::Elapsed(ticket) if self.is_asked(ticket) => self.create(&mut effects),
            GenerationInput::Elapsed(ticket) => {
                let step = self.follower.elapsed(now, ticket);
                self.follow(now, step, &mut effects);
            }
        }
        effects
    }

    fn begin(&mut self, now: f64, prompt: Prompt, effects: &mut Vec<GenerationEffect>) {
        self.leave(effects);
        self.asked = Some(Asked { prompt, at: now, ticket: None });
        self.tally = Tally::default();
        self.create(effects);
        self.run_clock(effects);
    }

    /// Abandons the latest generation, and cancels it on the server if it is still running.
    fn leave(&mut self, effects: &mut Vec<GenerationEffect>) {
        if self.follower.is_following() {
            effects.extend(
                self.session.as_ref().map(|session| GenerationEffect::Cancel(session.created.id.clone())),
            );
        }
        self.stop_following(effects);
        if let Some(asked) = &mut self.asked {
            asked.ticket = None;
        }
        self.session = None;
        self.problem = None;
    }

    fn stop_following(&mut self, effects: &mut Vec<GenerationEffect>) {
        effects.extend(self.follower.stop().into_iter().map(GenerationEffect::from));
    }

    fn create(&mut self, effects: &mut Vec<GenerationEffect>) {
        let Some(asked) = &mut self.asked else { return };
        let ticket = Ticket::issue();
        asked.ticket = Some(ticket);
        effects.push(GenerationEffect::Create(ticket, asked.prompt.request.clone()));
        self.stage = Stage::Queued;
        self.problem = None;
    }

    fn is_asked(&self, ticket: Ticket) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.ticket == Some(ticket))
    }

    fn created(
        &mut self,
        now: f64,
        ticket: Ticket,
        answer: Result<GenerationCreated, Problem>,
        effects: &mut Vec<GenerationEffect>,
    ) {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.ticket == Some(ticket)) else {
            // Stopped meanwhile.
            return effects.extend(answer.ok().map(|created| GenerationEffect::Cancel(created.id)));
        };
        asked.ticket = None;
        match answer {
            Ok(created) => {
                let (prompt, asked_at) = (asked.prompt.clone(), asked.at);
                let session = Session::new(created, &prompt, asked_at);
                effects.push(GenerationEffect::Store(session.clone()));
                self.display(prompt, session, effects);
                effects.extend(self.follower.start(now).into_iter().map(GenerationEffect::from));
                self.watch_place(FIRST_PLACE_MS, effects);
            }
            Err(Problem::Busy { retry_at }) => {
                let ticket = Ticket::issue();
                asked.ticket = Some(ticket);
                effects.push(GenerationEffect::Wait(ticket, (retry_at - now).max(0.0)));
                self.fail(Problem::Busy { retry_at });
            }
            Err(problem) => self.fail(problem),
        }
    }

    /// Shows empty images of a session.
    fn display(&mut self, prompt: Prompt, session: Session, effects: &mut Vec<GenerationEffect>) {
        let request = &prompt.request;
        let images = request.sample_count();
        self.follower = Follower::new(session.created.events.clone(), images, &self.geometry);
        self.ranking = Ranking::new(images, request.samples);
        let seconds = self.tally.seconds;
        self.tally = Tally { total: images * self.geometry.image_length(), seconds, ..Tally::default() };
        self.displayed = Some(prompt);
        self.session = Some(session);
        effects.extend([GenerationEffect::Display, GenerationEffect::ShowRanking]);
    }

    fn restore(&mut self, now: f64, prompt: Prompt, session: Session, effects: &mut Vec<GenerationEffect>) {
        self.leave(effects);
        self.asked = Some(Asked { prompt: prompt.clone(), at: session.asked_at, ticket: None });
        self.tally = Tally::default();
        self.display(prompt, session.clone(), effects);
        match session.result.as_ref().and_then(|result| Some((self.complete_log(result)?, result))) {
            Some((log, result)) => self.restore_result(log, result, &session.preferred, effects),
            None => {
                self.stage = Stage::Queued;
                effects.extend(self.follower.start(now).into_iter().map(GenerationEffect::from));
                self.run_clock(effects);
                self.watch_place(0.0, effects);
                session.preferred.iter().rev().for_each(|image| self.ranking.prefer(*image));
            }
        }
        effects.extend([GenerationEffect::Store(session), GenerationEffect::ShowRanking]);
    }

    fn restore_result(
        &mut self,
        log: Log,
        result: &SavedResult,
        preferred: &[usize],
        effects: &mut Vec<GenerationEffect>,
    ) {
        let SavedResult { seconds, rate, .. } = *result;
        self.tally = Tally { tokens: log.received(), total: log.received(), seconds, rate, before: None };
        self.ranking = result.ranking(self.ranking.shown().len(), preferred);
        self.follower = Follower::complete(log);
        self.stage = Stage::Complete;
        effects.push(GenerationEffect::ShowTokens);
    }

    /// The log of a stored result, if that fits the request.
    fn complete_log(&self, result: &SavedResult) -> Option<Log> {
        let tokens = result.tokens.iter().map(|text| unpack(text)).collect::<Option<Vec<_>>>()?;
        Log::complete(tokens, &self.geometry).filter(|log| log.tokens().len() == self.tokens().len())
    }

    fn again(&mut self, now: f64, effects: &mut Vec<GenerationEffect>) {
        if let Some(asked) = self.asked.clone() {
            self.begin(now, asked.prompt, effects);
        }
    }

    fn reconnect(&mut self, now: f64, effects: &mut Vec<GenerationEffect>) {
        if self.session.is_none() {
            return self.again(now, effects);
        }
        self.problem = None;
        self.stage = if self.tally.tokens > 0 { Stage::Running } else { Stage::Queued };
        self.renew = true;
        effects.extend(self.follower.start(now).into_iter().map(GenerationEffect::from));
        self.run_clock(effects);
    }

    fn follow(&mut self, now: f64, step: Step, effects: &mut Vec<GenerationEffect>) {
        effects.extend(step.effects.into_iter().map(GenerationEffect::from));
        match step.outcome {
            Some(Ok(change)) => {
                self.renew = false;
                self.take(now, change, effects);
            }
            Some(Err(Problem::Gone)) if self.renew => {
                self.renew = false;
                self.again(now, effects);
            }
            Some(Err(problem)) => self.fail(problem),
            None => {}
        }
    }

    /// Takes a change of the log.
    fn take(&mut self, now: f64, change: Change, effects: &mut Vec<GenerationEffect>) {
        match change {
            Change::Repeat | Change::Ignored => {}
            Change::Started => {
                self.stage = Stage::Running;
                self.tally.before = None;
                self.place = None;
                self.store(effects, |session| session.began_at = session.began_at.or(Some(now)));
            }
            Change::Tokens => {
                self.tally.tokens = self.follower.log().received();
                effects.push(GenerationEffect::ShowTokens);
            }
            Change::Scored { sample, tokens, score } => {
                self.ranking.scored(sample, tokens, score, self.follower.log().tokens());
                effects.push(GenerationEffect::ShowRanking);
            }
            Change::Finished { seconds } => self.finish(now, seconds, effects),
            Change::Cancelled => {
                self.stage = Stage::Cancelled;
                effects.push(GenerationEffect::Forget);
            }
            Change::Failed(error) => {
                self.fail(Problem::EngineFailed(error.message));
                self.session = None;
                effects.push(GenerationEffect::Forget);
            }
        }
    }

    fn finish(&mut self, now: f64, engine_seconds: f64, effects: &mut Vec<GenerationEffect>) {
        self.tick(now);
        self.tally.rate = (engine_seconds > 0.0).then(|| self.tally.total as f64 / engine_seconds);
        self.stage = Stage::Complete;
        let result = SavedResult {
            seconds: self.tally.seconds,
            rate: self.tally.rate,
            tokens: self.tokens().iter().map(|tokens| pack(tokens)).collect(),
            scores: (0..self.tokens().len()).filter_map(|image| self.ranking.score(image)).collect(),
        };
        self.store(effects, |session| session.result = Some(result));
    }

    /// Lets the clock run as long as the person waits.
    fn run_clock(&mut self, effects: &mut Vec<GenerationEffect>) {
        self.clock = self.is_waiting().then(Ticket::issue);
        effects.extend(self.clock.map(|ticket| GenerationEffect::Wait(ticket, TICK_MS)));
    }

    /// Asks for the place in the server's queue in a moment, as long as the generation waits there.
    fn watch_place(&mut self, ms: f64, effects: &mut Vec<GenerationEffect>) {
        let on_server = |session: &&Session| {
            Place::of_events(&session.created.events) == Place::Server && session.result.is_none()
        };
        let waits = self.stage == Stage::Queued && self.session.as_ref().filter(on_server).is_some();
        self.place = waits.then(Ticket::issue);
        effects.extend(self.place.map(|ticket| GenerationEffect::Wait(ticket, ms)));
    }

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Queued | Stage::Running)
            || matches!(self.problem, Some(Problem::Busy { .. }))
    }

    fn tick(&mut self, now: f64) {
        let Some(asked) = self.asked.as_ref().filter(|_| self.is_waiting()) else { return };
        self.tally.seconds = (now - asked.at) / 1e3;
        let began_at = self.session.as_ref().and_then(|session| session.began_at);
        if let Some(began_at) = began_at.filter(|began_at| now - began_at > RATE_AFTER_MS)
            && self.stage == Stage::Running
        {
            self.tally.rate = Some(self.tally.tokens as f64 / (now - began_at) * 1e3);
        }
    }

    fn fail(&mut self, problem: Problem) {
        self.stage = Stage::Failed;
        self.problem = Some(problem);
    }

    /// Changes the session and stores it.
    fn store(&mut self, effects: &mut Vec<GenerationEffect>, change: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session {
            change(session);
            effects.push(GenerationEffect::Store(session.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
