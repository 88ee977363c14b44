//! The event stream: complete, in order, and the same however often the connection is lost.

use std::time::Instant;

use dalle_shared::{EventKind, GenerationEvent, ImageToken, TextToken};
use proptest::prelude::*;
use reqwest::StatusCode;

use crate::sampler::{Behaviour, GEOMETRY, score, token};
use crate::server::{TestServer, brisk, error, request};
use crate::sse::{Events, assert_numbered, tokens};

/// The expected tokens of `request(seed, samples)`.
fn expected(seed: u64, samples: usize) -> Vec<Vec<ImageToken>> {
    let text = [5, 6, 7].map(TextToken);
    let row = |sample| (0..GEOMETRY.image_length()).map(|p| token(&text, seed, sample, p)).collect();
    (0..samples).map(row).collect()
}

#[tokio::test]
async fn a_generation_sends_started_tokens_and_finished() {
    let server = TestServer::start(brisk()).await;
    let created = server.create(&request(1, 3)).await;
    assert_eq!(created.events, format!("/v1/generations/{}/events", created.id));
    let mut stream = Events::of(server.get(&created.events).await);
    let mut events = vec![stream.next().await.unwrap()];
    assert!(stream.retry.is_some());
    events.extend(stream.rest().await);
    assert_numbered(&events, 0);
    assert_eq!(events[0].kind, EventKind::Started);
    assert!(matches!(events.last().unwrap().kind, EventKind::Finished { seconds } if seconds > 0.0));
    assert_eq!(events.iter().filter(|event| event.kind.is_last()).count(), 1);
    assert_eq!(tokens(&events), expected(1, 3));
}

#[tokio::test]
async fn best_of_samples_more_and_scores_them_at_half_and_at_the_end() {
    let server = TestServer::start(brisk()).await;
    let mut body = request(1, 1);
    body["best_of"] = 5.into();
    let created = server.create(&body).await;
    let events = Events::of(server.get(&created.events).await).rest().await;
    assert_numbered(&events, 0);
    let sampled = expected(1, 5);
    assert_eq!(tokens(&events), sampled);
    let mut last = vec![None; 5];
    let (mut early, length) = (0, GEOMETRY.image_length());
    for event in &events {
        if let EventKind::Scored { sample, tokens, score: got } = event.kind {
            assert!((length / 2..=length).contains(&tokens));
            assert_eq!(got, score(&sampled[sample][..tokens]));
            early += usize::from(tokens < length);
            last[sample] = Some(tokens);
        }
    }
    assert!(early > 0, "there are scores before the end");
    assert_eq!(last, [Some(length); 5], "the last score is of the complete image");
    assert!(matches!(events.last().unwrap().kind, EventKind::Finished { .. }));
}

#[tokio::test]
async fn at_most_one_token_event_every_30_ms() {
    let server =
        TestServer::start(Behaviour { step_time: std::time::Duration::from_millis(1), ..brisk() }).await;
    let begin = Instant::now();
    let created = server.create(&request(1, 1)).await;
    let events = Events::of(server.get(&created.events).await).rest().await;
    let intervals = begin.elapsed().as_millis() / 30;
    let count = events.iter().filter(|event| matches!(event.kind, EventKind::Tokens { .. })).count();
    assert!(count as u128 <= intervals + 2, "{count} events in {intervals} intervals");
    assert_eq!(tokens(&events), expected(1, 1));
}

#[tokio::test]
async fn a_second_viewer_and_a_replay_read_the_same_events() {
    let server = TestServer::start(brisk()).await;
    let created = server.create(&request(2, 2)).await;
    let first = Events::of(server.get(&created.events).await);
    let second = Events::of(server.get(&created.events).await);
    let (first, second) = tokio::join!(first.rest(), second.rest());
    let replay = Events::of(server.get(&created.events).await).rest().await;
    assert_eq!(first, second);
    assert_eq!(first, replay);
    assert_eq!(tokens(&replay), expected(2, 2));
}

#[tokio::test]
async fn a_client_that_has_read_the_whole_log_gets_204() {
    let server = TestServer::start(Behaviour::default()).await;
    let created = server.create(&request(3, 1)).await;
    let events = Events::of(server.get(&created.events).await).rest().await;
    let last = events.last().unwrap().seq;
    let seen_all = server.get(&format!("{}?after={last}", created.events)).await;
    assert_eq!(seen_all.status(), StatusCode::NO_CONTENT);
    for (after, status) in [((last + 1).to_string(), 400), ("-1".to_owned(), 400), ("x".to_owned(), 400)] {
        let (_, _, field) =
            error(server.get(&format!("{}?after={after}", created.events)).await, status).await;
        assert_eq!(field.as_deref(), Some("after"));
    }
    for bad in ["x", "99999"] {
        let call = server.client.get(server.url(&created.events)).header("Last-Event-ID", bad);
        let (_, _, field) = error(call.send().await.unwrap(), 400).await;
        assert_eq!(field.as_deref(), Some("Last-Event-ID"), "{bad}");
    }
}

#[tokio::test]
async fn a_prefix_is_returned_unchanged_and_the_rest_is_sampled_as_if_it_had_been() {
    let server = TestServer::start(brisk()).await;
    let generate = async |prefix: &[ImageToken]| {
        let mut body = request(6, 2);
        body["prefix"] = serde_json::to_value(prefix).unwrap();
        let created = server.create(&body).await;
        let events = Events::of(server.get(&created.events).await).rest().await;
        assert_numbered(&events, 0);
        let replay = Events::of(server.get(&created.events).await).rest().await;
        assert_eq!(events, replay);
        tokens(&events)
    };
    let sampled = expected(6, 2);
    let prefix: Vec<ImageToken> = (0..20).map(ImageToken).collect();
    for (row, sampled) in generate(&prefix).await.iter().zip(&sampled) {
        assert_eq!((&row[..20], &row[20..]), (&prefix[..], &sampled[20..]));
    }
    assert_eq!(
        generate(&sampled[0]).await,
        [&sampled[0][..]; 2],
        "with a complete image there is nothing to sample"
    );
}

#[tokio::test]
async fn last_event_id_overrides_the_query() {
    let server = TestServer::start(Behaviour::default()).await;
    let created = server.create(&request(4, 1)).await;
    let all = Events::of(server.get(&created.events).await).rest().await;
    let url = server.url(&format!("{}?after=0", created.events));
    let rest = server.client.get(url).header("Last-Event-ID", "1").send().await.unwrap();
    assert_eq!(Events::of(rest).rest().await, all[2..]);
}

#[tokio::test]
async fn batched_requests_give_the_tokens_that_they_give_alone() {
    let server = TestServer::start(brisk()).await;
    let generate = async |seed: u64| {
        let samples = 1 + seed as usize % 4;
        // Not all at the same time, so that they join the batch at different steps.
        tokio::time::sleep(std::time::Duration::from_millis(seed * 7)).await;
        let created = server.create(&request(seed, samples)).await;
        tokens(&Events::of(server.get(&created.events).await).rest().await)
    };
    let together = futures_util::future::join_all((0..10).map(&generate)).await;
    assert!(server.probe.most_rows.load(std::sync::atomic::Ordering::SeqCst) > 4, "nothing was batched");
    for (seed, rows) in (0..10).zip(together) {
        assert_eq!(rows, expected(seed, 1 + seed as usize % 4));
    }
}

/// Reads a generation over several connections. Connection i is cut after `cuts[i].0` events.
async fn read_with_cuts(server: &TestServer, address: &str, cuts: &[(usize, bool)]) -> Vec<GenerationEvent> {
    let mut seen: Vec<GenerationEvent> = Vec::new();
    let mut cuts = cuts.iter();
    loop {
        let cut = cuts.next();
        let last = seen.last().map(|event| event.seq);
        let in_header = cut.is_none_or(|(_, in_header)| *in_header);
        let call = match last {
            Some(last) if in_header => server.client.get(server.url(address)).header("Last-Event-ID", last),
            Some(last) => server.client.get(server.url(&format!("{address}?after={last}"))),
            None => server.client.get(server.url(address)),
        };
        let response = call.send().await.unwrap();
        if response.status() == StatusCode::NO_CONTENT {
            return seen;
        }
        let mut events = Events::of(response);
        for _ in 0..cut.map_or(usize::MAX, |(count, _)| *count) {
            match events.next().await {
                Some(event) => seen.push(event),
                None => return seen,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_stream_cut_anywhere_resumes_without_gap_or_repeat(
        cuts in proptest::collection::vec((0usize..5, any::<bool>()), 0..8),
        seed in any::<u64>(), samples in 1usize..4,
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let server = TestServer::start(brisk()).await;
            let created = server.create(&request(seed, samples)).await;
            let events = read_with_cuts(&server, &created.events, &cuts).await;
            assert_numbered(&events, 0);
            assert!(events.last().unwrap().kind.is_last());
            assert_eq!(tokens(&events), expected(seed, samples));
        });
    }
}
