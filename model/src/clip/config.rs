//! The sizes of a CLIP: the content of a model folder's `clip.json`.
//!
//! The size of images, the length of captions and their vocabulary are the model's, in `config.json`.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, ModelConfig, check, check_ranges};

/// A CLIP. ViT-B/32: embedding 512, patch 32, text 512 × 12 with 8 heads, image 768 × 12 with 12.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// Width of the joint embedding space of captions and images.
    pub embedding: usize,
    /// Side of the image patches in pixels; divides the model's `image_size`.
    pub patch: usize,
    /// The text transformer.
    pub text: TowerConfig,
    /// The vision transformer.
    pub image: TowerConfig,
    /// SHA-256 of the `tokenizer.json` used in training, which writes it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

/// One of the two transformers.
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

impl ClipConfig {
    /// Checks that the fields describe a CLIP for the captions and images of `model`.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let (text, image) = (&self.text, &self.image);
        check_ranges(&[
            ("embedding", self.embedding, 1, 1 << 14),
            ("text.width", text.width, 1, 1 << 14),
            ("text.layers", text.layers, 1, 1024),
            ("text.heads", text.heads, 1, 1024),
            ("image.width", image.width, 1, 1 << 14),
            ("image.layers", image.layers, 1, 1024),
            ("image.heads", image.heads, 1, 1024),
        ])?;
        let whole = text.width.is_multiple_of(text.heads);
        check(whole, "text.heads", "must divide `text.width`", &text.heads)?;
        let whole = image.width.is_multiple_of(image.heads);
        check(whole, "image.heads", "must divide `image.width`", &image.heads)?;
        let whole = self.patch > 0 && model.image_size.is_multiple_of(self.patch);
        check(whole, "patch", "must divide the `image_size` of config.json", &self.patch)
    }
}
