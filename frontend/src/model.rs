//! The model served, as far as a browser needs it.

use dalle_shared::{Geometry, ModelManifest, Tokenizer};

/// A model.
#[derive(Debug)]
pub struct Model {
    /// Its description.
    pub manifest: ModelManifest,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

impl Model {
    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.manifest.geometry
    }
}
