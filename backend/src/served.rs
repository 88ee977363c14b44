//! The served model as clients see it.

use axum::body::Bytes;
use dalle_shared::{ModelManifest, Tokenizer};

/// The parts of the model that handlers need. Its networks belong to the engine's thread.
pub struct ServedModel {
    /// Response to `GET /v1/model`.
    pub manifest: ModelManifest,
    /// Turns prompts into ids.
    pub tokenizer: Tokenizer,
    /// Contents of `manifest.files`, in their order. Kept in memory, so that the files served are the files hashed even if the folder
    /// changes.
    pub contents: Vec<Bytes>,
}
