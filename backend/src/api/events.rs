//! `GET /v1/generations/{id}/events`: a job's log as server-sent events.
//!
//! `id` is the event's number, `event` its kind, `data` its JSON. A client that reconnects names the last event it has seen
//! (`Last-Event-ID`, which browsers send automatically, or `?after=` on a first connection) and gets the rest.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{AppendHeaders, IntoResponse, Response};
use dalle_shared::{ErrorCode, GenerationEvent};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::watch;

use super::generations::find;
use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::jobs::Viewer;

/// A comment is sent after this time without an event, so that proxies keep the connection open and a dead client is detected.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long browsers wait before they reconnect.
const RECONNECT: Duration = Duration::from_secs(1);
/// Number of the last event that the client has seen.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The query of a first connection.
#[derive(Deserialize)]
pub struct Resume {
    after: Option<String>,
}

/// Streams the events. If the log has ended and the client has seen all of it, the response is 204, which tells browsers not to
/// reconnect.
pub async fn stream_events(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    resume: Result<Query<Resume>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let job = find(&app, &id?)?;
    let from = first_unseen(&headers, resume?.0, job.log.len())?;
    if let (unseen, true) = job.log.read(from)
        && unseen.is_empty()
    {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let viewer = job.view().ok_or_else(|| {
        ErrorResponse::new(ErrorCode::Busy, "this generation has too many viewers; try again later").after(5)
    })?;
    let hello = stream::iter([Ok(Event::default().retry(RECONNECT))]);
    let sse = Sse::new(hello.chain(follow(viewer, from).map(|event| Ok::<_, Infallible>(frame(&event)))))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without this, nginx buffers events.
    let unbuffered = AppendHeaders([(HeaderName::from_static("x-accel-buffering"), "no")]);
    Ok((unbuffered, sse).into_response())
}

/// The number of the first unseen event of a log of `length` events. The header takes precedence, because a browser that
/// reconnects repeats the old query.
fn first_unseen(headers: &HeaderMap, resume: Resume, length: usize) -> Result<usize, ErrorResponse> {
    let header =
        headers.get(&LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("non-ASCII bytes").to_owned());
    let (field, seen) = match (header, resume.after) {
        (Some(header), _) => ("Last-Event-ID", header),
        (None, Some(after)) => ("after", after),
        (None, None) => return Ok(0),
    };
    match seen.parse::<usize>() {
        Ok(seen) if seen < length => Ok(seen + 1),
        Ok(seen) => {
            let message = format!(
                "expected the number of an event that was sent, got {seen}: there are {length} events, numbered from 0"
            );
            Err(ErrorResponse::invalid(field, message))
        }
        Err(_) => {
            Err(ErrorResponse::invalid(field, format!("expected the number of an event, got `{seen}`")))
        }
    }
}

fn frame(event: &GenerationEvent) -> Event {
    let data = serde_json::to_string(event).expect("events have string keys and finite numbers");
    Event::default().id(event.seq.to_string()).event(event.kind.name()).data(data)
}

struct Reader {
    viewer: Viewer,
    length: watch::Receiver<usize>,
    next: usize,
    unsent: VecDeque<GenerationEvent>,
}

/// The events of a log from number `next` to its end, as they are appended.
fn follow(viewer: Viewer, next: usize) -> impl Stream<Item = GenerationEvent> {
    let length = viewer.job().log.watch();
    let reader = Reader { viewer, length, next, unsent: VecDeque::new() };
    stream::unfold(reader, |mut reader| async move {
        loop {
            if let Some(event) = reader.unsent.pop_front() {
                return Some((event, reader));
            }
            reader.length.borrow_and_update();
            let (events, ended) = reader.viewer.job().log.read(reader.next);
            reader.next += events.len();
            if events.is_empty() && (ended || reader.length.changed().await.is_err()) {
                return None;
            }
            reader.unsent = events.into();
        }
    })
}
