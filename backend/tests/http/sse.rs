//! A client for server-sent events that is as strict as a browser.

use std::pin::Pin;
use std::time::Duration;

use dalle_shared::{EventKind, GenerationEvent, ImageToken};
use futures_util::{Stream, StreamExt};
use reqwest::{Response, StatusCode};

use crate::server::PATIENCE;

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<axum::body::Bytes>> + Send>>;

/// An open stream. Dropping it closes the connection.
pub struct Events {
    chunks: Chunks,
    text: String,
    pub retry: Option<Duration>,
}

impl Events {
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-cache");
        assert_eq!(header("x-accel-buffering"), "no");
        Self { chunks: Box::pin(response.bytes_stream()), text: String::new(), retry: None }
    }

    /// The next event; None at the end, or if the connection broke.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                match self.parse(&block) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.chunks.next()).await.expect("an event in time")?.ok()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn parse(&mut self, block: &str) -> Option<GenerationEvent> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(retry) = field("retry") {
            self.retry = Some(Duration::from_millis(retry.parse().unwrap()));
        }
        let event: GenerationEvent = serde_json::from_str(field("data")?).unwrap();
        assert_eq!(field("id"), Some(event.seq.to_string().as_str()));
        assert_eq!(field("event"), Some(event.kind.name()));
        Some(event)
    }

    /// All events up to the end.
    pub async fn rest(mut self) -> Vec<GenerationEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Asserts that events are numbered from `first` without gaps or repeats.
pub fn assert_numbered(events: &[GenerationEvent], first: u64) {
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (first..first + events.len() as u64).collect::<Vec<_>>());
}

/// Joins the token events of a complete log.
pub fn tokens(events: &[GenerationEvent]) -> Vec<Vec<ImageToken>> {
    let mut rows: Vec<Vec<ImageToken>> = Vec::new();
    for event in events {
        if let EventKind::Tokens { start, tokens } = &event.kind {
            rows.resize(tokens.len(), Vec::new());
            for (row, new) in rows.iter_mut().zip(tokens) {
                assert_eq!(row.len(), *start);
                row.extend(new);
            }
        }
    }
    rows
}
