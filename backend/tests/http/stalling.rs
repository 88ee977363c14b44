//! A stalled engine.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use dalle_backend::Options;
use dalle_shared::{ErrorCode, EventKind};
use reqwest::StatusCode;

use crate::sampler::Behaviour;
use crate::server::{TestServer, brisk, error, options, request};
use crate::sse::Events;

#[tokio::test]
async fn a_stalled_engine_fails_its_generations_and_admits_none_until_it_recovers() {
    let behaviour = Behaviour { hangs_at_step: Some((10, Duration::from_secs(4))), ..brisk() };
    let stall_timeout = Duration::from_millis(500);
    let server = TestServer::start_with(behaviour, Options { stall_timeout, ..options() }).await;
    tokio::time::sleep(2 * stall_timeout).await;
    assert_eq!(
        server.get("/health/live").await.status(),
        StatusCode::OK,
        "an idle engine does not count as stalled"
    );

    let running = server.create(&request(1, 9)).await;
    let waiting = server.create(&request(2, 1)).await;
    for created in [running, waiting] {
        let events = Events::of(server.get(&created.events).await).rest().await;
        let EventKind::Failed { error } = &events.last().unwrap().kind else { panic!("{events:?}") };
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("does not respond"), "{}", error.message);
    }
    for path in ["/health/live", "/health/ready", "/v1/model"] {
        let response = server.get(path).await;
        assert!(response.headers().contains_key("retry-after"), "{path}");
        assert_eq!(error(response, 503).await.0, "unavailable", "{path}");
    }
    error(server.ask(&request(3, 1)).await, 503).await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\ndalle_engine_stalled 1\n"), "{metrics}");

    server.until("recovered", async || server.get("/health/live").await.status() == StatusCode::OK).await;
    let next = server.create(&request(4, 1)).await;
    let events = Events::of(server.get(&next.events).await).rest().await;
    assert!(matches!(events.last().unwrap().kind, EventKind::Finished { .. }));
}

#[tokio::test]
async fn a_server_whose_engine_hangs_stops_within_its_limits() {
    let behaviour = Behaviour { hangs_at_step: Some((10, Duration::from_secs(60))), ..brisk() };
    let server =
        TestServer::start_with(behaviour, Options { drain: Duration::from_millis(200), ..options() }).await;
    let created = server.create(&request(1, 1)).await;
    let events = tokio::spawn(Events::of(server.get(&created.events).await).rest());
    server.until("hanging", async || server.probe.steps.load(SeqCst) == 10).await;
    server.stop.send(()).unwrap();
    // The drain, the last responses and the last step have 0.2, 2 and 2 s.
    tokio::time::timeout(Duration::from_secs(20), server.outcome).await.unwrap().unwrap().unwrap();
    assert!(matches!(events.await.unwrap().last().unwrap().kind, EventKind::Failed { .. }));
}
