//! A generation as an append-only log of numbered events.
//!
//! Streaming, resuming after a lost connection, a second viewer and replay are the same read of this log. Sent as
//! server-sent events: `id` is [`GenerationEvent::seq`], `event` the kind's name, `data` this JSON.

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The engine took the job from the queue.
    Started,
    /// Tokens since the last such event, in raster order: those that the request gave
    /// ([`prefix`](crate::GenerationRequest::prefix)), then those sampled. All samples of a request advance together, so every
    /// row of `tokens` (one per sample) has the same length.
    Tokens {
        /// Raster position of the first token of each row.
        start: usize,
        /// `tokens[sample][i]` is the token at position `start + i`.
        tokens: Vec<Vec<ImageToken>>,
    },
    /// The contrastive model has scored a sample of a request with `best_of`: once provisionally, when half of its tokens were
    /// there, and once when it had them all. The later score replaces the earlier.
    Scored {
        /// Which sample.
        sample: usize,
        /// How many of its tokens were there.
        tokens: usize,
        /// Its cosine with the caption, from −1 to 1; more is better.
        score: f32,
    },
    /// Every sample has all its tokens, and where `best_of` was asked its last score.
    Finished {
        /// Seconds the engine worked on the job.
        seconds: f64,
    },
    /// Cancelled by the client, or abandoned by it longer than the grace time.
    Cancelled,
    /// The engine failed.
    Failed {
        /// What to tell the person.
        error: ApiError,
    },
}

impl EventKind {
    /// Name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Tokens { .. } => "tokens",
            Self::Scored { .. } => "scored",
            Self::Finished { .. } => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether the log ends with this event.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Cancelled | Self::Failed { .. })
    }
}

/// Answer to `GET /v1/generations/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// The generation's id.
    pub id: String,
    /// Where it stands.
    pub state: GenerationState,
    /// Address of its event stream, relative to the backend's base address.
    pub events: String,
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Waiting for the engine.
    Queued,
    /// Being sampled.
    Running,
    /// Complete.
    Finished,
    /// Cancelled.
    Cancelled,
    /// Failed.
    Failed,
}
