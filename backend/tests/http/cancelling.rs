//! Cancelled and abandoned generations, and the full queue.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use dalle_backend::Options;
use dalle_shared::{EventKind, GenerationState};
use reqwest::StatusCode;

use crate::sampler::{Behaviour, GEOMETRY};
use crate::server::{TestServer, error, options, request, slow};
use crate::sse::Events;

#[tokio::test]
async fn delete_frees_the_engine_within_one_step() {
    let step_time = Duration::from_millis(40);
    let server = TestServer::start(Behaviour { step_time, ..Behaviour::default() }).await;
    let created = server.create(&request(1, 5)).await;
    let mut events = Events::of(server.get(&created.events).await);
    while !matches!(events.next().await.unwrap().kind, EventKind::Tokens { .. }) {}
    assert_eq!(server.probe.rows.load(SeqCst), 5);

    assert_eq!(server.delete(&created.id).await.status(), StatusCode::NO_CONTENT);
    let steps = server.probe.steps.load(SeqCst);
    server.until("rows freed", async || server.probe.rows.load(SeqCst) == 0).await;
    assert!(server.probe.steps.load(SeqCst) <= steps + 1, "the step in progress may end, no other begin");
    let rest = events.rest().await;
    assert_eq!(rest.last().unwrap().kind, EventKind::Cancelled, "viewers are notified");

    assert_eq!(server.delete(&created.id).await.status(), StatusCode::NO_CONTENT, "DELETE is idempotent");
    assert_eq!(server.state(&created.id).await, GenerationState::Cancelled);
    assert_eq!(error(server.delete("0123").await, 404).await.0, "not_found");
}

/// Waits until this many rows are sampled. Unlike polling a state, this does not count as watching.
async fn until_rows(server: &TestServer, rows: usize) {
    server.until(&format!("{rows} rows"), async || server.probe.rows.load(SeqCst) == rows).await;
}

#[tokio::test]
async fn a_client_that_disconnects_has_a_grace_time() {
    // Long enough for a busy machine to reconnect in time.
    let grace = Duration::from_secs(3);
    let server = TestServer::start_with(slow(), Options { grace, ..options() }).await;
    let watched = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&watched.events).await);
    let never_watched = server.create(&request(2, 1)).await;
    until_rows(&server, 2).await;
    until_rows(&server, 1).await;
    assert_eq!(server.state(&never_watched.id).await, GenerationState::Cancelled);
    assert_eq!(server.state(&watched.id).await, GenerationState::Running, "a client is watching");

    drop(events);
    let again = Events::of(server.get(&watched.events).await);
    // Created after the client disconnected, and never watched: when this one is cancelled, the grace time is over.
    let clock = server.create(&request(3, 1)).await;
    until_rows(&server, 2).await;
    until_rows(&server, 1).await;
    assert_eq!(server.state(&clock.id).await, GenerationState::Cancelled);
    assert_eq!(server.state(&watched.id).await, GenerationState::Running, "the client came back in time");

    drop(again);
    until_rows(&server, 0).await;
    assert_eq!(server.state(&watched.id).await, GenerationState::Cancelled);
}

#[tokio::test]
async fn polling_the_state_counts_as_watching() {
    let grace = Duration::from_secs(2);
    let server = TestServer::start_with(slow(), Options { grace, ..options() }).await;
    let polled = server.create(&request(1, 1)).await;
    let never_watched = server.create(&request(2, 1)).await;
    until_rows(&server, 2).await;
    server
        .until("the other cancelled", async || {
            assert_ne!(server.state(&polled.id).await, GenerationState::Cancelled);
            server.probe.rows.load(SeqCst) == 1
        })
        .await;
    assert_eq!(server.state(&never_watched.id).await, GenerationState::Cancelled);
    until_rows(&server, 0).await;
    assert_eq!(server.state(&polled.id).await, GenerationState::Cancelled, "polling has stopped");
}

#[tokio::test]
async fn ended_generations_stay_readable_however_many_end_after_them() {
    let server = TestServer::start_with(Behaviour::default(), Options { queue: 64, ..options() }).await;
    let first = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&first.events).await).rest().await;
    let mut whole = request(2, 1);
    whole["prefix"] = vec![1; GEOMETRY.image_length()].into();
    for _ in 0..521 {
        let created = server.create(&whole).await;
        Events::of(server.get(&created.events).await).rest().await;
    }
    assert_eq!(Events::of(server.get(&first.events).await).rest().await, events);
}

/// If the prefix is the whole image, there is nothing to sample, only to score.
#[tokio::test]
async fn samples_waiting_for_scores_take_rows_and_their_job_can_be_cancelled() {
    let tight = Options { max_rows: 9, ..options() };
    let behaviour = Behaviour { score_time: Duration::from_millis(50), ..Behaviour::default() };
    let server = TestServer::start_with(behaviour, tight).await;
    let mut body = request(1, 1);
    body["best_of"] = 9.into();
    body["prefix"] = vec![7; GEOMETRY.image_length()].into();
    let first = server.create(&body).await;
    let second = server.create(&body).await;
    let plain = server.create(&request(2, 1)).await;
    let mut events = Events::of(server.get(&first.events).await);
    let complete = GEOMETRY.image_length();
    while !matches!(events.next().await.unwrap().kind, EventKind::Scored { tokens, .. } if tokens == complete)
    {
    }
    assert_eq!(
        server.state(&second.id).await,
        GenerationState::Queued,
        "nine samples wait for scores, so there is no free row"
    );
    assert_eq!(server.delete(&first.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.state(&first.id).await, GenerationState::Cancelled);
    server.until("plain", async || server.state(&plain.id).await == GenerationState::Finished).await;
    server.until("second", async || server.state(&second.id).await == GenerationState::Finished).await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let tight = Options { queue: 1, max_rows: 9, ..options() };
    let behaviour = Behaviour { step_time: Duration::from_millis(100), ..Behaviour::default() };
    let server = TestServer::start_with(behaviour, tight).await;
    let running = server.create(&request(1, 9)).await;
    server.until("running", async || server.state(&running.id).await == GenerationState::Running).await;
    let mut events = Events::of(server.get(&running.events).await);
    while !matches!(events.next().await.unwrap().kind, EventKind::Tokens { .. }) {}
    let waiting = server.create(&request(2, 1)).await;

    let refused = server.ask(&request(3, 1)).await;
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let (code, message, _) = error(refused, 429).await;
    assert_eq!(code, "busy");
    assert!(message.contains(&format!("{seconds} s")), "{message}");
    // 64 tokens at 0.1 s each, as measured.
    assert!((3..=60).contains(&seconds), "{seconds}");
    assert_eq!(
        error(
            server.post("/v1/images/generations", &serde_json::json!({"prompt": "x"})).send().await.unwrap(),
            429
        )
        .await
        .0,
        "busy"
    );

    // A freed slot can be taken without waiting for the engine.
    server.delete(&waiting.id).await;
    let next = server.create(&request(4, 1)).await;
    assert_eq!(server.state(&next.id).await, GenerationState::Queued);
    server.delete(&running.id).await;
    server.until("running", async || server.state(&next.id).await == GenerationState::Running).await;
}

#[tokio::test]
async fn a_large_request_is_not_overtaken() {
    let server = TestServer::start_with(slow(), Options { max_rows: 9, ..options() }).await;
    let running = server.create(&request(1, 2)).await;
    server.until("running", async || server.state(&running.id).await == GenerationState::Running).await;
    let large = server.create(&request(2, 9)).await;
    let small = server.create(&request(3, 1)).await;
    server.delete(&running.id).await;
    server.until("running", async || server.state(&large.id).await == GenerationState::Running).await;
    assert_eq!(server.state(&small.id).await, GenerationState::Queued);
    assert!(server.probe.most_rows.load(SeqCst) <= 9);
}
