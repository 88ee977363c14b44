//! `Idempotency-Key`: a request that is sent again.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use dalle_backend::Options;
use dalle_shared::{GenerationCreated, GenerationState};
use serde_json::{Value, json};

use crate::sampler::Behaviour;
use crate::server::{TestServer, brisk, error, options, request};
use crate::sse::Events;

async fn send(server: &TestServer, path: &str, key: &str, body: &Value) -> reqwest::Response {
    server.post(path, body).header("Idempotency-Key", key).send().await.unwrap()
}

#[tokio::test]
async fn a_repeated_request_joins_the_generation_that_it_started() {
    let server = TestServer::start(brisk()).await;
    let create = async |key: &str, seed: u64| -> GenerationCreated {
        send(&server, "/v1/generations", key, &request(seed, 1)).await.json().await.unwrap()
    };
    let together = futures_util::future::join_all((0..8).map(|_| create("a", 1))).await;
    assert!(together.iter().all(|created| created.id == together[0].id), "requests that arrive together");
    let events = Events::of(server.get(&together[0].events).await).rest().await;
    assert_eq!(create("a", 1).await, together[0], "after the end");
    assert_ne!(create("b", 1).await.id, together[0].id);
    assert_eq!(Events::of(server.get(&together[0].events).await).rest().await, events);

    let (_, message, field) = error(send(&server, "/v1/generations", "a", &request(2, 1)).await, 400).await;
    assert_eq!(field.as_deref(), Some("Idempotency-Key"));
    assert!(message.contains("new key"), "{message}");
    for bad in ["", &"k".repeat(256)] {
        error(send(&server, "/v1/generations", bad, &request(2, 1)).await, 400).await;
    }
}

#[tokio::test]
async fn a_cancelled_generation_is_started_again() {
    let server = TestServer::start(brisk()).await;
    let create = async || -> GenerationCreated {
        send(&server, "/v1/generations", "a", &request(1, 1)).await.json().await.unwrap()
    };
    let first = create().await;
    server.delete(&first.id).await;
    let second = create().await;
    assert_ne!(second.id, first.id);
    server.until("finished", async || server.state(&second.id).await == GenerationState::Finished).await;
}

#[tokio::test]
async fn images_whose_connection_breaks_are_there_when_the_request_is_repeated() {
    let behaviour = Behaviour { step_time: Duration::from_millis(15), ..Behaviour::default() };
    let server =
        TestServer::start_with(behaviour, Options { grace: Duration::from_secs(15), ..options() }).await;
    let (path, body) = ("/v1/images/generations", json!({"prompt": "a cat", "n": 2}));
    let broken = server.post(path, &body).header("Idempotency-Key", "a").timeout(Duration::from_millis(300));
    assert!(broken.send().await.unwrap_err().is_timeout());
    let first: Value = send(&server, path, "a", &body).await.json().await.unwrap();
    let again: Value = send(&server, path, "a", &body).await.json().await.unwrap();
    assert_eq!((&first["data"], &first["seed"]), (&again["data"], &again["seed"]), "the seed is random");
    assert!(server.probe.steps.load(SeqCst) <= 66, "one generation, and the warm-up");
    let streamed = json!({"prompt": "a cat", "n": 2, "stream": true});
    error(send(&server, path, "a", &streamed).await, 400).await;
}
