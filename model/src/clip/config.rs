//! The sizes of a contrastive model: the content of a model folder's `clip.json`.
//!
//! What it shares with the rest of the folder, the size of pictures, the length of captions and their vocabulary, stands in
//! `config.json`.

use dalle_shared::files::{CLIP_CONFIG, TOKENIZER};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, ModelConfig};

/// A contrastive model. CLIP's ViT-B/32: embedding 512, patch 32, text 512 × 12 with 8 heads, image 768 × 12 with 12.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// Width of the space in which captions and pictures meet.
    pub embedding: usize,
    /// Side of the patches that a picture is cut into, in pixels; divides the model's `image_size`.
    pub patch: usize,
    /// The transformer that reads captions.
    pub text: TowerConfig,
    /// The transformer that looks at pictures.
    pub image: TowerConfig,
    /// SHA-256 of the `tokenizer.json` that it was trained with. Training writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

/// One of its two transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Attention layers, each followed by an MLP of four times the width.
    pub layers: usize,
    /// Attention heads; divide the width.
    pub heads: usize,
}

/// A `clip.json` that describes no contrastive model for the model beside it.
#[derive(Debug, thiserror::Error)]
pub enum ClipConfigError {
    /// It is of another form.
    #[error("no configuration of a contrastive model: {cause}")]
    Json {
        /// Where reading stopped.
        cause: serde_json::Error,
    },
    /// Its numbers do not fit each other, or the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The contrastive model reads captions by other ids than the model.
    #[error(
        "it was trained with another {TOKENIZER} than the one beside it; train the contrastive model again with `dalle clip train`"
    )]
    Tokenizer,
}

impl ClipConfig {
    /// The content of a `clip.json`, for `model`.
    ///
    /// # Errors
    /// It is of another form, or does not fit the model.
    pub fn from_json(json: &[u8], model: &ModelConfig) -> Result<Self, ClipConfigError> {
        let config: Self = serde_json::from_slice(json).map_err(|cause| ClipConfigError::Json { cause })?;
        config.validate(model)?;
        Ok(config)
    }

    /// The `clip.json` of a model folder, whose `tokenizer.json` has the hash `tokenizer` (SHA-256).
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), or it was trained with another tokenizer.
    pub fn of_folder(json: &[u8], model: &ModelConfig, tokenizer: &str) -> Result<Self, ClipConfigError> {
        let config = Self::from_json(json, model)?;
        if config.tokenizer.as_deref() == Some(tokenizer) {
            Ok(config)
        } else {
            Err(ClipConfigError::Tokenizer)
        }
    }

    /// Checks that the numbers describe a contrastive model of captions and pictures of `model`.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let check = |ok: bool, field, expected, got| {
            if ok { Ok(()) } else { Err(ConfigError { file: CLIP_CONFIG, field, expected, got }) }
        };
        let width = "must be from 1 to 16384";
        let count = "must be from 1 to 1024";
        // The upper bounds only keep nonsense from being allocated, as in `config.json`.
        let ranges = [
            ("embedding", self.embedding, 1 << 14, width),
            ("text.width", self.text.width, 1 << 14, width),
            ("text.layers", self.text.layers, 1024, count),
            ("text.heads", self.text.heads, 1024, count),
            ("image.width", self.image.width, 1 << 14, width),
            ("image.layers", self.image.layers, 1024, count),
            ("image.heads", self.image.heads, 1024, count),
        ];
        for (field, got, high, expected) in ranges {
            check((1..=high).contains(&got), field, expected, got)?;
        }
        let (text, image) = (&self.text, &self.image);
        check(text.width.is_multiple_of(text.heads), "text.heads", "must divide `text.width`", text.heads)?;
        check(
            image.width.is_multiple_of(image.heads),
            "image.heads",
            "must divide `image.width`",
            image.heads,
        )?;
        let whole = self.patch > 0 && model.image_size.is_multiple_of(self.patch);
        check(whole, "patch", "must divide the `image_size` of config.json", self.patch)
    }
}
