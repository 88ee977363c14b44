//! The generation this tab is following, kept over a reload.

use dalle_shared::{GenerationCreated, GenerationRequest};
use serde::{Deserialize, Serialize};

use crate::browser;
use crate::link::Link;

const KEY: &str = "dalle.generation";

/// A generation on the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Where it is.
    pub created: GenerationCreated,
    /// The caption as typed.
    pub caption: String,
    /// What was asked for.
    pub request: GenerationRequest,
    /// When it was asked for (milliseconds since 1970).
    pub asked_at: f64,
    /// When the engine began.
    pub began_at: Option<f64>,
    /// Seconds until its last token came, once it has.
    pub took: Option<f64>,
    /// Pictures that the person prefers to the best, the latest first.
    #[serde(default)]
    pub preferred: Vec<usize>,
}

impl Session {
    /// Keeps it for this tab. Without storage a reload starts empty; nothing else depends on it.
    pub fn keep(&self) {
        if let (Some(storage), Ok(json)) = (browser::session_storage(), serde_json::to_string(self)) {
            let _ = storage.set_item(KEY, &json);
        }
    }

    /// The one kept, if it can be read.
    pub fn kept() -> Option<Self> {
        serde_json::from_str(&browser::session_storage()?.get_item(KEY).ok()??).ok()
    }

    /// Keeps none.
    pub fn forget() {
        if let Some(storage) = browser::session_storage() {
            let _ = storage.remove_item(KEY);
        }
    }

    /// Whether a link is one to it.
    pub fn is_behind(&self, link: &Link) -> bool {
        *link == Link::to(&self.caption, &self.request, &[])
            || *link == Link::to(&self.caption, &self.request, &self.preferred)
    }
}
