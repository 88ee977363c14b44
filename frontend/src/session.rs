//! A generation as this tab stores it, so that a reload loses nothing.

use dalle_shared::{GenerationCreated, GenerationRequest};
use serde::{Deserialize, Serialize};

use crate::link::Link;

/// A caption and what was asked of the server for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The caption as typed.
    pub caption: String,
    /// The request.
    pub request: GenerationRequest,
}

impl Prompt {
    /// The link to its images; to the preferred one alone where a single image is preferred to the best.
    pub fn link(&self, preferred: &[usize]) -> Link {
        Link::to(&self.caption, &self.request, preferred)
    }
}

/// A generation on the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Where it is.
    pub created: GenerationCreated,
    /// Fragment of the link to all its images. The prompt can be made from it again.
    pub link: String,
    /// When it was asked for (milliseconds since 1970).
    pub asked_at: f64,
    /// When the engine began.
    pub began_at: Option<f64>,
    /// Images that the person prefers to the best, the latest first.
    pub preferred: Vec<usize>,
    /// Its result, once it is finished: from then on the server is not needed.
    pub result: Option<SavedResult>,
}

/// The result of a finished generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedResult {
    /// Seconds from the request to the last token.
    pub seconds: f64,
    /// Tokens per second of the engine.
    pub rate: Option<f64>,
    /// Tokens of each image, as [`packing::pack`](crate::packing::pack) writes them.
    pub tokens: Vec<String>,
    /// Score of each image; empty if there are none.
    pub scores: Vec<f32>,
}

impl Session {
    /// A generation that the server has just accepted.
    pub fn new(created: GenerationCreated, prompt: &Prompt, asked_at: f64) -> Self {
        let link = prompt.link(&[]).to_fragment();
        Self { created, link, asked_at, began_at: None, preferred: Vec::new(), result: None }
    }
}
