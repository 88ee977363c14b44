//! The model as clients see it.

use axum::body::Bytes;
use dalle_shared::{ModelManifest, Tokenizer};

/// What handlers need of the model; its networks belong to the engine's thread.
pub struct ServedModel {
    /// Answer to `GET /v1/model`.
    pub manifest: ModelManifest,
    /// Turns prompts into ids.
    pub tokenizer: Tokenizer,
    /// Contents of `manifest.files`, in their order. They are kept in memory, so that what was hashed is what is served even
    /// if the folder changes.
    pub contents: Vec<Bytes>,
}
