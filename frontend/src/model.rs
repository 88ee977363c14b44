//! The model, as far as a browser needs it.

use dalle_shared::{Geometry, ModelManifest, Tokenizer, files};

use crate::place::Place;

/// A model.
#[derive(Debug)]
pub struct Model {
    /// Its description.
    pub manifest: ModelManifest,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Base address of its files.
    pub base: String,
    /// Whether a server samples it.
    pub served: bool,
}

impl Model {
    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.manifest.geometry
    }

    /// Whether this browser can sample it.
    pub fn runs_here(&self) -> bool {
        self.manifest.file(files::PRIOR).is_some()
    }

    /// Whether images are sampled there.
    pub fn runs_at(&self, place: Place) -> bool {
        match place {
            Place::Server => self.served,
            Place::Browser => self.runs_here(),
        }
    }

    /// Whether the best of several images can be chosen there: CLIP runs on servers only.
    pub fn scores_at(&self, place: Place) -> bool {
        place == Place::Server && self.manifest.scores
    }
}
