//! Following the event stream of one generation: what arrives goes into its [`Log`], and a stream that ends early is opened again.
//!
//! A state machine: its methods take what happened to the stream and the time, and return a [`Step`], with the [`FollowerEffect`]s that
//! the caller executes.

use dalle_shared::{GenerationEvent, Geometry};

use crate::log::{Change, Log, LogError};
use crate::problem::Problem;
use crate::reconnect::Reconnect;
use crate::ticket::Ticket;

/// A stream silent for longer is broken: the server sends a comment every 10 seconds.
const SILENCE_MS: f64 = 30_000.0;

/// What happens to a stream, in this order: `Opened`, any number of `Alive` and `Event`, `Closed`.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// The server answered and knows the generation.
    Opened,
    /// Bytes arrived, perhaps only those that keep the connection open.
    Alive,
    /// An event, or why it could not be read.
    Event(Result<GenerationEvent, String>),
    /// The stream ended, or why it was not opened.
    Closed(Result<(), Problem>),
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowerEffect {
    /// Open the stream in place of the one that is open. Its signals carry the ticket.
    Open {
        /// Names the answers.
        ticket: Ticket,
        /// Address of the stream, relative to the backend's base address.
        events: String,
        /// Number of the last event received.
        after: Option<u64>,
    },
    /// Close the stream.
    Close,
    /// Call [`Follower::elapsed`] after so many milliseconds.
    Wait(Ticket, f64),
}

/// What an input meant.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// What the caller must do.
    pub effects: Vec<FollowerEffect>,
    /// What it changed: the log, or that following ended with a problem.
    pub outcome: Option<Result<Change, Problem>>,
}

/// Reads one generation to its end.
#[derive(Debug)]
pub struct Follower {
    events: String,
    log: Log,
    state: State,
    reconnect: Reconnect,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Not followed, or over.
    Idle,
    /// A stream is open or being opened.
    Streaming { stream: Ticket, silence: Ticket, heard_at: f64 },
    /// Until the stream is opened again.
    Waiting(Ticket),
}

impl Follower {
    /// A follower of `images` images, whose events are at the address `events`.
    pub fn new(events: String, images: usize, geometry: &Geometry) -> Self {
        Self::of(events, Log::new(images, geometry))
    }

    /// A generation that has been read to its end.
    pub fn complete(log: Log) -> Self {
        Self::of(String::new(), log)
    }

    fn of(events: String, log: Log) -> Self {
        Self { events, log, state: State::Idle, reconnect: Reconnect::default() }
    }

    /// What has arrived.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether the connection is lost and is being tried again.
    pub fn is_reconnecting(&self) -> bool {
        self.state != State::Idle && self.reconnect.is_unanswered()
    }

    /// Whether there is a stream to close.
    pub fn is_following(&self) -> bool {
        self.state != State::Idle
    }

    /// Begins to follow, or begins again after it was given up.
    pub fn start(&mut self, now: f64) -> Vec<FollowerEffect> {
        self.reconnect = Reconnect::default();
        self.open(now)
    }

    /// Ends following.
    pub fn stop(&mut self) -> Vec<FollowerEffect> {
        let was = std::mem::replace(&mut self.state, State::Idle);
        if was == State::Idle { Vec::new() } else { vec![FollowerEffect::Close] }
    }

    /// Takes a signal of the stream with this ticket.
    pub fn signal(&mut self, now: f64, ticket: Ticket, signal: Signal) -> Step {
        match &mut self.state {
            State::Streaming { stream, heard_at, .. } if *stream == ticket => *heard_at = now,
            _ => return Step::default(),
        }
        match signal {
            Signal::Opened => {
                self.reconnect.opened();
                Step::default()
            }
            Signal::Alive => Step::default(),
            Signal::Event(Ok(event)) => self.event(event),
            Signal::Event(Err(how)) => self.fail(Problem::Misunderstood(how)),
            Signal::Closed(Ok(()) | Err(Problem::Busy { .. })) => self.ended(),
            Signal::Closed(Err(Problem::NoServer | Problem::Unavailable)) => {
                let wait = self.reconnect.unanswered(now);
                self.wait(wait)
            }
            Signal::Closed(Err(problem)) => self.fail(problem),
        }
    }

    /// The time of an [`FollowerEffect::Wait`] is over.
    pub fn elapsed(&mut self, now: f64, ticket: Ticket) -> Step {
        match self.state {
            State::Waiting(waiting) if waiting == ticket => Step { effects: self.open(now), outcome: None },
            State::Streaming { silence, heard_at, .. } if silence == ticket => {
                let left = SILENCE_MS - (now - heard_at);
                if left <= 0.0 {
                    return self.ended();
                }
                Step { effects: vec![FollowerEffect::Wait(silence, left)], outcome: None }
            }
            _ => Step::default(),
        }
    }

    fn open(&mut self, now: f64) -> Vec<FollowerEffect> {
        let (stream, silence) = (Ticket::issue(), Ticket::issue());
        self.state = State::Streaming { stream, silence, heard_at: now };
        let (events, after) = (self.events.clone(), self.log.last());
        vec![
            FollowerEffect::Open { ticket: stream, events, after },
            FollowerEffect::Wait(silence, SILENCE_MS),
        ]
    }

    fn event(&mut self, event: GenerationEvent) -> Step {
        match self.log.apply(event) {
            Ok(Change::Repeat) => Step::default(),
            Ok(change) => {
                self.reconnect.progressed();
                let effects = if change.is_last() { self.stop() } else { Vec::new() };
                Step { effects, outcome: Some(Ok(change)) }
            }
            Err(LogError::Gap) => self.ended(),
            Err(LogError::Malformed(how)) => self.fail(Problem::Misunderstood(how)),
        }
    }

    /// The stream ended early, whatever the reason.
    fn ended(&mut self) -> Step {
        let wait = self.reconnect.ended();
        self.wait(wait)
    }

    fn wait(&mut self, wait: Option<f64>) -> Step {
        let Some(ms) = wait else { return self.fail(Problem::LostConnection) };
        let ticket = Ticket::issue();
        self.state = State::Waiting(ticket);
        Step { effects: vec![FollowerEffect::Close, FollowerEffect::Wait(ticket, ms)], outcome: None }
    }

    fn fail(&mut self, problem: Problem) -> Step {
        Step { effects: self.stop(), outcome: Some(Err(problem)) }
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::{EventKind, ImageToken};

    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 9, grid: 1, image_vocab: 8, image_size: 8 };

    /// A follower with a fake clock, network and server.
    struct World {
        now: f64,
        follower: Follower,
        timers: Vec<(f64, Ticket)>,
        stream: Option<(Ticket, Option<u64>)>,
        opened: usize,
        outcomes: Vec<Result<Change, Problem>>,
    }

    impl World {
        fn new() -> Self {
            let follower = Follower::new("e".into(), 1, &GEOMETRY);
            let mut world = Self {
                now: 1e9,
                follower,
                timers: Vec::new(),
                stream: None,
                opened: 0,
                outcomes: Vec::new(),
            };
            let effects = world.follower.start(world.now);
            world.execute(Step { effects, outcome: None });
            world
        }

        fn execute(&mut self, step: Step) {
            for effect in step.effects {
                match effect {
                    FollowerEffect::Open { ticket, after, .. } => {
                        self.stream = Some((ticket, after));
                        self.opened += 1;
                    }
                    FollowerEffect::Close => self.stream = None,
                    FollowerEffect::Wait(ticket, ms) => self.timers.push((self.now + ms, ticket)),
                }
            }
            self.outcomes.extend(step.outcome);
        }

        /// A signal of the stream that is open.
        fn signal(&mut self, signal: Signal) {
            let (ticket, _) = self.stream.expect("an open stream");
            let step = self.follower.signal(self.now, ticket, signal);
            self.execute(step);
        }

        fn event(&mut self, seq: u64, kind: EventKind) {
            self.signal(Signal::Event(Ok(GenerationEvent { seq, kind })));
        }

        /// Moves the clock to the next timer.
        fn pass(&mut self) {
            let next = (0..self.timers.len()).min_by(|&a, &b| self.timers[a].0.total_cmp(&self.timers[b].0));
            let (at, ticket) = self.timers.remove(next.expect("a timer"));
            self.now = self.now.max(at);
            let step = self.follower.elapsed(self.now, ticket);
            self.execute(step);
        }

        /// Lets time pass, and answers each stream that is opened with these signals, until following ends.
        fn run(&mut self, signals: &[Signal]) -> f64 {
            let begin = self.now;
            while self.follower.is_following() {
                assert!(self.opened < 50, "a loop without end");
                match self.stream {
                    Some(_) => signals.iter().cloned().for_each(|signal| {
                        if self.stream.is_some() {
                            self.signal(signal);
                        }
                    }),
                    None => self.pass(),
                }
            }
            self.now - begin
        }
    }

    fn tokens(ids: &[u16]) -> EventKind {
        EventKind::Tokens { start: 0, tokens: vec![ids.iter().copied().map(ImageToken).collect()] }
    }

    #[test]
    fn a_persistent_gap_is_given_up_after_a_few_attempts_with_backoff() {
        let mut world = World::new();
        world.event(0, EventKind::Started);
        let gap = Signal::Event(Ok(GenerationEvent { seq: 2, kind: EventKind::Cancelled }));
        let took = world.run(&[Signal::Opened, Signal::Alive, gap]);
        assert_eq!(world.outcomes, [Ok(Change::Started), Err(Problem::LostConnection)]);
        assert_eq!(world.opened, 6);
        assert!((5_000.0..30_000.0).contains(&took), "{took} ms");
    }

    #[test]
    fn a_stream_that_closes_each_time_is_given_up_and_so_is_one_that_is_refused_for_the_moment() {
        let busy = Signal::Closed(Err(Problem::Busy { retry_at: 0.0 }));
        for signals in [vec![Signal::Opened, Signal::Closed(Ok(()))], vec![busy]] {
            let mut world = World::new();
            world.run(&signals);
            assert_eq!((world.opened, &world.outcomes[..]), (6, &[Err(Problem::LostConnection)][..]));
        }
    }

    #[test]
    fn a_server_that_is_away_for_a_moment_is_found_again_where_the_log_ended() {
        let mut world = World::new();
        world.event(0, EventKind::Started);
        world.signal(Signal::Closed(Ok(())));
        assert!(!world.follower.is_reconnecting(), "one attempt is not worth a word");
        for _ in 0..3 {
            while world.stream.is_none() {
                world.pass();
            }
            world.signal(Signal::Closed(Err(Problem::NoServer)));
            assert!(world.follower.is_reconnecting());
        }
        while world.stream.is_none() {
            world.pass();
        }
        assert_eq!(world.stream.map(|(_, after)| after), Some(Some(0)));
        world.signal(Signal::Opened);
        assert!(!world.follower.is_reconnecting());
        world.event(1, tokens(&[3]));
        world.event(2, EventKind::Finished { seconds: 1.0 });
        assert!(!world.follower.is_following() && world.stream.is_none());
        assert_eq!(world.follower.log().received(), 1);
    }

    #[test]
    fn a_server_that_stays_away_is_given_up_and_can_be_tried_again() {
        let mut world = World::new();
        let took = world.run(&[Signal::Closed(Err(Problem::NoServer))]);
        assert_eq!(world.outcomes, [Err(Problem::LostConnection)]);
        assert!((15_000.0..20_000.0).contains(&took), "{took} ms");
        let effects = world.follower.start(world.now);
        world.execute(Step { effects, outcome: None });
        world.event(0, EventKind::Started);
        assert_eq!(world.outcomes.last(), Some(&Ok(Change::Started)));
    }

    #[test]
    fn a_forgotten_generation_is_not_asked_for_twice() {
        let mut world = World::new();
        world.signal(Signal::Closed(Err(Problem::Gone)));
        assert_eq!((world.opened, &world.outcomes[..]), (1, &[Err(Problem::Gone)][..]));
    }

    #[test]
    fn comments_keep_a_stream_open_and_silence_ends_it() {
        let mut world = World::new();
        world.signal(Signal::Opened);
        // Ten minutes in the queue, with a comment every ten seconds.
        for _ in 0..60 {
            world.now += 10_000.0;
            world.signal(Signal::Alive);
            while world.timers.iter().any(|(at, _)| *at <= world.now) {
                world.pass();
            }
        }
        assert_eq!(world.opened, 1);
        let silent = world.now;
        while world.opened == 1 {
            world.pass();
        }
        assert!((30_000.0..31_000.0).contains(&(world.now - silent)), "{} ms", world.now - silent);
    }

    #[test]
    fn signals_of_an_earlier_stream_are_ignored() {
        let mut world = World::new();
        let (old, _) = world.stream.expect("an open stream");
        world.signal(Signal::Closed(Ok(())));
        while world.stream.is_none() {
            world.pass();
        }
        let started = GenerationEvent { seq: 0, kind: EventKind::Started };
        for signal in [Signal::Event(Ok(started)), Signal::Closed(Err(Problem::Gone))] {
            assert_eq!(world.follower.signal(world.now, old, signal), Step::default());
        }
    }
}
