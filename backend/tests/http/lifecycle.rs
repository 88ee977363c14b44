//! Start, failure and shutdown.

use std::time::{Duration, Instant};

use dalle_backend::{Options, ServerError};
use dalle_shared::{ErrorCode, EventKind, GenerationState};
use reqwest::StatusCode;

use crate::sampler::Behaviour;
use crate::server::{PATIENCE, TestServer, brisk, error, options, request, slow};
use crate::sse::Events;

#[tokio::test]
async fn is_live_before_it_is_ready() {
    let (go, wait) = std::sync::mpsc::channel();
    let server = TestServer::start_loading(Behaviour::default(), options(), move || Ok(wait.recv()?)).await;
    assert_eq!(server.get("/health/live").await.status(), StatusCode::OK);
    for path in ["/health/ready", "/v1/model", "/v1/model/files/config.json"] {
        let response = server.get(path).await;
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(error(response, 503).await.0, "unavailable");
    }
    assert_eq!(error(server.ask(&request(1, 1)).await, 503).await.0, "unavailable");
    go.send(()).unwrap();
    server.until("ready", async || server.get("/health/ready").await.status() == StatusCode::OK).await;
    server.create(&request(1, 1)).await;
}

#[tokio::test]
async fn a_model_that_does_not_load_ends_the_server_with_the_reason() {
    let refuse = || Err(anyhow::anyhow!("no such weights"));
    let server = TestServer::start_loading(Behaviour::default(), options(), refuse).await;
    let outcome = tokio::time::timeout(PATIENCE, server.outcome).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(ServerError::Engine(reason)) if reason.contains("no such weights")));
}

#[tokio::test]
async fn a_panic_of_the_engine_is_reported_and_ends_the_server() {
    let server = TestServer::start(Behaviour { panics_at_step: Some(6), ..brisk() }).await;
    let created = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&created.events).await).rest().await;
    match &events.last().unwrap().kind {
        EventKind::Failed { error } => {
            assert_eq!(error.code, ErrorCode::Internal);
            assert!(
                !error.message.contains("panic of the test"),
                "internal details are not sent: {}",
                error.message
            );
        }
        other => panic!("{other:?}"),
    }
    let outcome = tokio::time::timeout(PATIENCE, server.outcome).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(ServerError::Engine(_))));
}

#[tokio::test]
async fn nan_logits_fail_the_jobs_not_the_server() {
    let server = TestServer::start(Behaviour { nan_at_step: Some(6), ..brisk() }).await;
    let created = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&created.events).await).rest().await;
    assert!(
        matches!(&events.last().unwrap().kind, EventKind::Failed { error } if error.code == ErrorCode::Internal)
    );
    let next = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&next.events).await).rest().await;
    assert!(matches!(events.last().unwrap().kind, EventKind::Finished { .. }));
}

/// One request is being sampled, and one is complete and waits for its scores.
#[tokio::test]
async fn a_request_with_nan_logits_fails_alone() {
    let score_time = Duration::from_millis(30);
    let behaviour = Behaviour { nan_for_samples: Some(2), score_time, ..brisk() };
    let server = TestServer::start(behaviour).await;
    let mut body = request(1, 1);
    body["best_of"] = 9.into();
    body["prefix"] = vec![7; crate::sampler::GEOMETRY.image_length() - 1].into();
    let scored = server.create(&body).await;
    let mut waiting = Events::of(server.get(&scored.events).await);
    while !matches!(waiting.next().await.unwrap().kind, EventKind::Scored { .. }) {}
    let running = server.create(&request(2, 3)).await;
    let mut sampled = Events::of(server.get(&running.events).await);
    while !matches!(sampled.next().await.unwrap().kind, EventKind::Tokens { .. }) {}

    let failing = server.create(&request(3, 2)).await;
    let events = Events::of(server.get(&failing.events).await).rest().await;
    let EventKind::Failed { error } = &events.last().unwrap().kind else { panic!("{events:?}") };
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("NaN or infinite"), "{}", error.message);
    for healthy in [waiting, sampled] {
        let last = healthy.rest().await.pop().unwrap().kind;
        assert!(matches!(last, EventKind::Finished { .. }), "{last:?}");
    }
}

#[tokio::test]
async fn shutdown_lets_running_generations_finish_and_admits_no_more() {
    let step_time = Duration::from_millis(20);
    let server = TestServer::start(Behaviour { step_time, ..Behaviour::default() }).await;
    let created = server.create(&request(1, 1)).await;
    let mut events = Events::of(server.get(&created.events).await);
    events.next().await.unwrap();
    let url = server.url("/health/ready");
    server.stop.send(()).unwrap();
    let begin = Instant::now();
    loop {
        // Until the last generation has finished, the server responds, but refuses requests.
        let response = server.client.get(&url).send().await.unwrap();
        if response.status() != StatusCode::OK {
            assert_eq!(error(response, 503).await.0, "unavailable");
            break;
        }
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(matches!(events.rest().await.last().unwrap().kind, EventKind::Finished { .. }));
    tokio::time::timeout(PATIENCE, server.outcome).await.unwrap().unwrap().unwrap();
    assert!(server.client.get(&url).send().await.is_err(), "the server no longer listens");
}

#[tokio::test]
async fn shutdown_fails_generations_that_cannot_finish_in_time() {
    let options = Options { max_rows: 9, drain: Duration::from_secs(3), ..options() };
    let server = TestServer::start_with(slow(), options).await;
    let running = server.create(&request(1, 9)).await;
    server.until("running", async || server.state(&running.id).await == GenerationState::Running).await;
    let waiting = server.create(&request(2, 9)).await;
    let (running, waiting) = tokio::join!(server.get(&running.events), server.get(&waiting.events));
    let begin = Instant::now();
    server.stop.send(()).unwrap();
    let last = |events: Vec<dalle_shared::GenerationEvent>| match events.last().unwrap().kind.clone() {
        EventKind::Failed { error } => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(last(Events::of(waiting).rest().await), ErrorCode::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(3), "a waiting job is ended immediately");
    assert_eq!(last(Events::of(running).rest().await), ErrorCode::Unavailable);
    assert!(begin.elapsed() >= Duration::from_secs(3), "a running job has time to finish");
    tokio::time::timeout(PATIENCE, server.outcome).await.unwrap().unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn shutdown_sends_retry_after_to_clients_of_the_images_api() {
    let options = Options { drain: Duration::ZERO, ..options() };
    let server = TestServer::start_with(slow(), options).await;
    let body = serde_json::json!({"prompt": "a cat"});
    let call = tokio::spawn(server.post("/v1/images/generations", &body).send());
    server.until("running", async || server.probe.rows.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    server.stop.send(()).unwrap();
    let response = call.await.unwrap().unwrap();
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(error(response, 503).await.0, "unavailable");
}

#[tokio::test]
async fn shutdown_lets_images_that_are_being_sampled_finish() {
    let step_time = Duration::from_millis(20);
    let server = TestServer::start(Behaviour { step_time, ..Behaviour::default() }).await;
    let body = serde_json::json!({"prompt": "a cat", "n": 2});
    let call = tokio::spawn(server.post("/v1/images/generations", &body).send());
    server.until("running", async || server.probe.rows.load(std::sync::atomic::Ordering::SeqCst) == 2).await;
    server.stop.send(()).unwrap();
    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
}
