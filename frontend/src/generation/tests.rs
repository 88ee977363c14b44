//! The machine with a fake clock and a fake server.

use dalle_shared::{
    ApiError, ErrorCode, EventKind, GenerationCreated, GenerationEvent, GenerationRequest, Seed,
};

use super::*;
use crate::follower::Signal;

const GEOMETRY: Geometry =
    Geometry { text_length: 4, text_vocab: 9, grid: 2, image_vocab: 8, image_size: 16 };

/// A person's request for two images, the best of four.
fn prompt() -> Prompt {
    let request = GenerationRequest {
        model: "m".into(),
        text: Vec::new(),
        samples: 2,
        best_of: Some(4),
        seed: Seed(7),
        temperature: 1.0,
        top_k: None,
        top_p: None,
        guidance: 1.0,
        prefix: Vec::new(),
    };
    Prompt { caption: "a fox".into(), request, seeds: Vec::new() }
}

struct World {
    now: f64,
    machine: Generation,
    timers: Vec<(f64, Ticket)>,
    /// Requests that wait for their answer.
    requests: Vec<Ticket>,
    /// Questions for the place in the queue.
    places: Vec<Ticket>,
    stream: Option<(Ticket, Option<u64>)>,
    cancelled: Vec<String>,
    stored: Option<Session>,
    /// How often empty images were shown.
    displays: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1e12,
            machine: Generation::new(GEOMETRY),
            timers: Vec::new(),
            requests: Vec::new(),
            places: Vec::new(),
            stream: None,
            cancelled: Vec::new(),
            stored: None,
            displays: 0,
        }
    }

    fn on(&mut self, input: GenerationInput) {
        for effect in self.machine.on(self.now, input) {
            match effect {
                GenerationEffect::Create(ticket, _) => self.requests.push(ticket),
                GenerationEffect::AskPlace(ticket, _) => self.places.push(ticket),
                GenerationEffect::Cancel(id) => self.cancelled.push(id),
                GenerationEffect::Open { ticket, after, .. } => self.stream = Some((ticket, after)),
                GenerationEffect::Close => self.stream = None,
                GenerationEffect::Wait(ticket, ms) => self.timers.push((self.now + ms, ticket)),
                GenerationEffect::Store(session) => self.stored = Some(session),
                GenerationEffect::Forget => self.stored = None,
                GenerationEffect::Display => self.displays += 1,
                GenerationEffect::ShowTokens | GenerationEffect::ShowRanking => {}
            }
        }
    }

    /// Lets so many milliseconds pass.
    fn pass(&mut self, ms: f64) {
        let end = self.now + ms;
        while let Some(next) = (0..self.timers.len())
            .filter(|&timer| self.timers[timer].0 <= end)
            .min_by(|&a, &b| self.timers[a].0.total_cmp(&self.timers[b].0))
        {
            let (at, ticket) = self.timers.remove(next);
            self.now = self.now.max(at);
            self.on(GenerationInput::Elapsed(ticket));
        }
        self.now = end;
    }

    /// The server answers the oldest request.
    fn answer(&mut self, answer: Result<&str, Problem>) {
        let ticket = self.requests.remove(0);
        let created = |id: &str| GenerationCreated { id: id.into(), events: format!("{id}/events") };
        self.on(GenerationInput::Created(ticket, answer.map(created)));
    }

    fn signal(&mut self, signal: Signal) {
        let (ticket, _) = self.stream.expect("an open stream");
        self.on(GenerationInput::Signal(ticket, signal));
    }

    fn event(&mut self, seq: u64, kind: EventKind) {
        self.signal(Signal::Event(Ok(GenerationEvent { seq, kind })));
    }

    /// A generation that the server has accepted and begun.
    fn running() -> Self {
        let mut world = Self::new();
        world.on(GenerationInput::Begin(prompt()));
        world.answer(Ok("one"));
        world.signal(Signal::Opened);
        world.event(0, EventKind::Started);
        world
    }

    /// A generation that is finished.
    fn finished() -> Self {
        let mut world = Self::running();
        world.pass(2_000.0);
        world.event(1, tokens(&[1, 2, 3, 4]));
        for sample in 0..4 {
            world.event(2 + sample as u64, EventKind::Scored { sample, tokens: 4, score: sample as f32 });
        }
        world.event(6, EventKind::Finished { seconds: 1.0 });
        world
    }
}

/// These tokens for each of four images.
fn tokens(ids: &[u16]) -> EventKind {
    let ids: Vec<ImageToken> = ids.iter().copied().map(ImageToken).collect();
    EventKind::Tokens { start: 0, tokens: vec![ids; 4] }
}

#[test]
fn a_generation_runs_to_its_end_and_is_stored_with_its_result() {
    let world = World::finished();
    assert_eq!((world.machine.stage(), world.stream), (Stage::Complete, None));
    let tally = Tally { tokens: 16, total: 16, seconds: 2.0, rate: Some(16.0), before: None };
    assert_eq!(world.machine.tally(), tally);
    assert_eq!(world.machine.ranking().shown(), [3, 2]);
    assert!(world.stored.is_some_and(|session| session.result.is_some()));
}

#[test]
fn a_finished_generation_is_shown_again_without_the_server() {
    let stored = World::finished().stored.expect("a stored session");
    let json = serde_json::to_string(&stored).expect("JSON");
    let mut world = World::new();
    world.on(GenerationInput::Restore(prompt(), serde_json::from_str(&json).expect("what was stored")));
    assert_eq!(world.machine.stage(), Stage::Complete);
    assert!(world.requests.is_empty() && world.stream.is_none() && world.timers.is_empty());
    let before = World::finished();
    assert_eq!(world.machine.tokens(), before.machine.tokens());
    assert_eq!(world.machine.ranking(), before.machine.ranking());
    assert_eq!(world.machine.tally(), before.machine.tally());
}

#[test]
fn a_stored_result_of_another_shape_is_asked_of_the_server() {
    let mut stored = World::finished().stored.expect("a stored session");
    if let Some(result) = &mut stored.result {
        result.tokens.pop();
    }
    let mut world = World::new();
    world.on(GenerationInput::Restore(prompt(), stored));
    assert_eq!((world.machine.stage(), world.stream.is_some()), (Stage::Queued, true));
}

#[test]
fn a_running_generation_is_followed_again_after_a_reload() {
    let mut stored = World::running().stored.expect("a stored session");
    stored.preferred = vec![3];
    let mut world = World::new();
    world.on(GenerationInput::Restore(prompt(), stored));
    assert_eq!(world.stream.map(|(_, after)| after), Some(None), "from the first event");
    world.event(0, EventKind::Started);
    world.event(1, tokens(&[1]));
    assert_eq!((world.machine.stage(), world.machine.tally().tokens), (Stage::Running, 4));
    assert_eq!(world.machine.ranking().shown(), [3, 0], "what the person prefers is kept");
}

#[test]
fn images_stay_on_display_until_the_server_accepts_the_next_request() {
    let mut world = World::finished();
    let before = world.machine.tokens().to_vec();
    world.on(GenerationInput::Begin(Prompt { caption: "a hen".into(), ..prompt() }));
    assert_eq!(world.machine.stage(), Stage::Queued);
    world.answer(Err(Problem::NoServer));
    assert_eq!((world.machine.stage(), world.machine.problem()), (Stage::Failed, Some(&Problem::NoServer)));
    assert_eq!((world.machine.tokens(), world.displays), (&before[..], 1));
    assert_eq!(world.machine.displayed().map(|prompt| &*prompt.caption), Some("a fox"));
    assert_eq!(world.machine.tally().tokens, 0, "nothing of the new one");

    world.on(GenerationInput::Again);
    world.answer(Ok("two"));
    assert_eq!(world.displays, 2);
    assert_eq!(world.machine.displayed().map(|prompt| &*prompt.caption), Some("a hen"));
    assert!(world.machine.tokens().iter().all(Vec::is_empty));
}

#[test]
fn a_busy_server_is_asked_again_when_it_said_and_at_once_when_the_person_says() {
    let mut world = World::new();
    world.on(GenerationInput::Begin(prompt()));
    let busy = |world: &World| Problem::Busy { retry_at: world.now + 5_000.0 };
    world.answer(Err(busy(&world)));
    assert!(matches!(world.machine.problem(), Some(Problem::Busy { .. })));
    world.pass(4_900.0);
    assert!(world.requests.is_empty());
    world.pass(200.0);
    assert_eq!((world.requests.len(), world.machine.problem()), (1, None));
    world.answer(Err(busy(&world)));

    world.on(GenerationInput::Again);
    assert_eq!(world.requests.len(), 1);
    world.answer(Ok("one"));
    world.pass(20_000.0);
    assert!(world.requests.is_empty(), "the retry that was waiting is dropped");
    assert!(world.machine.tally().seconds > 4.0, "the clock runs since the request");
}

#[test]
fn waiting_for_a_busy_server_can_be_stopped() {
    let mut world = World::new();
    world.on(GenerationInput::Begin(prompt()));
    world.answer(Err(Problem::Busy { retry_at: world.now + 1_000.0 }));
    world.on(GenerationInput::Stop);
    world.pass(60_000.0);
    assert_eq!((world.machine.stage(), world.requests.len()), (Stage::Cancelled, 0));
    assert!(world.timers.is_empty(), "nothing goes on");
}

#[test]
fn stop_cancels_on_the_server_whenever_it_is_pressed() {
    let mut world = World::running();
    world.on(GenerationInput::Stop);
    assert_eq!((world.machine.stage(), &world.cancelled[..]), (Stage::Cancelled, &["one".to_owned()][..]));
    assert!(world.stream.is_none() && world.stored.is_none());

    // Before the server has answered: what it then accepts is cancelled.
    let mut world = World::new();
    world.on(GenerationInput::Begin(prompt()));
    world.on(GenerationInput::Stop);
    world.answer(Ok("late"));
    assert_eq!((world.machine.stage(), &world.cancelled[..]), (Stage::Cancelled, &["late".to_owned()][..]));
    assert_eq!(world.displays, 0);
}

#[test]
fn a_new_request_cancels_the_generation_that_is_running() {
    let mut world = World::running();
    world.on(GenerationInput::Begin(prompt()));
    assert_eq!(world.cancelled, ["one"]);
    let mut world = World::finished();
    world.on(GenerationInput::Begin(prompt()));
    assert!(world.cancelled.is_empty(), "a finished one is left alone");
}

#[test]
fn after_a_lost_connection_the_rest_is_read_or_a_forgotten_generation_asked_for_again() {
    let lost = || {
        let mut world = World::running();
        world.event(1, tokens(&[1]));
        world.signal(Signal::Closed(Err(Problem::NoServer)));
        while world.machine.problem().is_none() {
            world.pass(1_000.0);
            if world.stream.is_some() {
                world.signal(Signal::Closed(Err(Problem::NoServer)));
            }
        }
        assert_eq!(world.machine.problem(), Some(&Problem::LostConnection));
        world.on(GenerationInput::Reconnect);
        world
    };
    let mut world = lost();
    assert_eq!((world.machine.problem(), world.machine.stage()), (None, Stage::Running));
    assert_eq!(world.stream.map(|(_, after)| after), Some(Some(1)));
    world.event(2, EventKind::Cancelled);
    assert_eq!((world.machine.stage(), world.stored), (Stage::Cancelled, None));

    let mut world = lost();
    world.signal(Signal::Closed(Err(Problem::Gone)));
    assert_eq!(world.requests.len(), 1, "the same request again");
    world.answer(Ok("two"));
    assert_eq!((world.machine.stage(), world.stream.is_some()), (Stage::Queued, true));
}

#[test]
fn a_generation_that_the_server_forgot_is_a_problem_unless_the_person_asked_to_reconnect() {
    let mut world = World::running();
    world.signal(Signal::Closed(Err(Problem::Gone)));
    assert_eq!((world.machine.problem(), world.requests.len()), (Some(&Problem::Gone), 0));
}

#[test]
fn a_failure_of_the_engine_is_its_problem_and_is_not_stored() {
    let mut world = World::running();
    let error = ApiError { code: ErrorCode::Internal, message: "out of memory".into(), field: None };
    world.event(1, EventKind::Failed { error });
    assert_eq!(world.machine.problem(), Some(&Problem::EngineFailed("out of memory".into())));
    assert_eq!((world.stored, world.stream), (None, None));
}

#[test]
fn the_clock_stops_when_nothing_is_waited_for() {
    for end in [
        EventKind::Cancelled,
        EventKind::Failed { error: ApiError { code: ErrorCode::Internal, message: "m".into(), field: None } },
    ] {
        let mut world = World::running();
        world.pass(1_000.0);
        world.event(1, end);
        let seconds = world.machine.tally().seconds;
        world.pass(60_000.0);
        assert_eq!((world.machine.tally().seconds, world.timers.len()), (seconds, 0));
    }
}

#[test]
fn what_the_person_prefers_is_stored() {
    let mut world = World::finished();
    world.on(GenerationInput::Prefer(0));
    assert_eq!(world.machine.ranking().shown(), [0, 3]);
    assert_eq!(world.stored.map(|session| session.preferred), Some(vec![0]));
}

#[test]
fn images_on_display_can_be_cleared_and_others_shown_in_their_place() {
    let mut world = World::finished();
    let first = world.stored.clone().expect("a session");
    world.on(GenerationInput::Clear);
    assert_eq!((world.machine.stage(), world.machine.displayed(), &world.stored), (Stage::Idle, None, &None));
    assert_eq!(world.displays, 2);

    world.on(GenerationInput::Restore(prompt(), first.clone()));
    assert_eq!(world.machine.stage(), Stage::Complete);
    assert_eq!(world.stored, Some(first), "a reload shows what is on display");
    assert!(world.cancelled.is_empty() && world.stream.is_none());
}

#[test]
fn the_place_in_the_queue_is_asked_for_until_the_generation_begins() {
    let mut world = World::new();
    world.on(GenerationInput::Begin(prompt()));
    world.answer(Ok("one"));
    world.signal(Signal::Opened);
    world.pass(600.0);
    assert!(world.places.is_empty(), "most generations begin at once");
    world.pass(200.0);
    for before in [12, 3] {
        let ticket = world.places.pop().expect("a question");
        world.on(GenerationInput::Place(ticket, Some(before)));
        assert_eq!(world.machine.tally().before, Some(before));
        world.pass(1_900.0);
        assert!(world.places.is_empty());
        world.pass(200.0);
    }
    let late = world.places.pop().expect("a question");
    world.event(0, EventKind::Started);
    world.on(GenerationInput::Place(late, Some(1)));
    world.pass(9_000.0);
    assert_eq!((world.machine.tally().before, world.places.len()), (None, 0));
}
