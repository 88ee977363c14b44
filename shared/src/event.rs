//! A generation as an append-only log of numbered events.
//!
//! Streaming, resuming after a lost connection, a second viewer and replay are the same read of this log. An entry is sent
//! as a server-sent event: `id` is [`GenerationEvent::seq`], `event` is [`EventKind::name`], `data` is the entry as JSON.

use serde::{Deserialize, Serialize};

use crate::{ApiError, ImageToken};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationEvent {
    /// Position in the log, from 0, without gaps. `Last-Event-ID: n` continues with `n + 1`.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen to a generation. The last event of a log is `Finished`, `Cancelled` or `Failed`.
///
/// Readers ignore kinds they do not know, so that a newer server can send more kinds to an older page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The engine took the job from the queue.
    Started,
    /// The tokens since the previous event of this kind, in raster order: first those of the request's
    /// [`prefix`](crate::GenerationRequest::prefix), then the sampled ones. All samples of a request advance together, so
    /// every row of `tokens` (one per sample) has the same length.
    Tokens {
        /// Raster position of the first token of each row.
        start: usize,
        /// `tokens[sample][i]` is the token at position `start + i`.
        tokens: Vec<Vec<ImageToken>>,
    },
    /// CLIP has scored a sample of a request with `best_of`: once provisionally, at half of its tokens, and once when it is
    /// complete. The later score replaces the earlier one.
    Scored {
        /// Index of the sample.
        sample: usize,
        /// Number of tokens it had.
        tokens: usize,
        /// Cosine similarity with the caption, from −1 to 1; higher is better.
        score: f32,
    },
    /// Every sample is complete and, with `best_of`, has its final score.
    Finished {
        /// Seconds from the start of the job in the engine to its end.
        seconds: f64,
    },
    /// Cancelled by the client, or unwatched for longer than the grace time.
    Cancelled,
    /// The generation failed.
    Failed {
        /// The error to show.
        error: ApiError,
    },
    /// A kind that this build does not know. Readers count it and otherwise ignore it; it is never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl EventKind {
    /// The [`name`](Self::name) of every kind that is sent, for clients that subscribe by name (`EventSource`).
    pub const NAMES: [&str; 6] = ["started", "tokens", "scored", "finished", "cancelled", "failed"];

    /// Name of the server-sent event, and `type` of its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Tokens { .. } => "tokens",
            Self::Scored { .. } => "scored",
            Self::Finished { .. } => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed { .. } => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the log ends with this event.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Cancelled | Self::Failed { .. })
    }
}

/// Response to `GET /v1/generations/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// The generation's id.
    pub id: String,
    /// The generation's state.
    pub state: GenerationState,
    /// While it is queued: the number of generations before it in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<usize>,
    /// URL of its event stream, relative to the backend's base URL.
    pub events: String,
}

/// State of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Waiting for the engine.
    Queued,
    /// Being sampled, or waiting for scores.
    Running,
    /// Complete.
    Finished,
    /// Cancelled.
    Cancelled,
    /// Failed.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn names_lists_every_event_kind_as_in_its_json() {
        let error = ApiError { code: ErrorCode::Internal, message: "m".into(), field: None };
        let kinds = [
            EventKind::Started,
            EventKind::Tokens { start: 0, tokens: vec![vec![ImageToken(1)]] },
            EventKind::Scored { sample: 0, tokens: 1, score: 0.5 },
            EventKind::Finished { seconds: 1.0 },
            EventKind::Cancelled,
            EventKind::Failed { error },
        ];
        assert_eq!(kinds.each_ref().map(EventKind::name), EventKind::NAMES);
        for kind in kinds {
            let event = GenerationEvent { seq: 3, kind };
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["type"], event.kind.name());
            assert_eq!(serde_json::from_value::<GenerationEvent>(json).unwrap(), event);
        }
    }

    #[test]
    fn an_event_of_an_unknown_kind_is_read_as_unknown_and_is_never_sent() {
        for json in [
            r#"{"seq": 4, "type": "explained"}"#,
            r#"{"seq": 4, "type": "explained", "sample": 1, "top": [[1, 0.5]], "error": {"code": "new"}}"#,
            r#"{"type": "explained", "tokens": "text", "seq": 4}"#,
        ] {
            let event: GenerationEvent = serde_json::from_str(json).unwrap();
            assert_eq!(event, GenerationEvent { seq: 4, kind: EventKind::Unknown }, "{json}");
            assert!(!event.kind.is_last(), "{json}");
            assert!(serde_json::to_string(&event).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<GenerationEvent>(r#"{"seq": 4}"#).is_err(), "a kind is required");
        assert!(serde_json::from_str::<GenerationEvent>(r#"{"seq": 4, "type": "tokens"}"#).is_err());
    }
}
