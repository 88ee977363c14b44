//! CLIP's configuration: the content of a model folder's `clip.json`.
//!
//! Image size, caption length and vocabulary are taken from the model's `config.json`.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, ModelConfig, check, check_ranges};

/// Sizes of CLIP. ViT-B/32 has embedding 512, patch 32, a text tower of width 512 with 12 layers and 8 heads, and an image tower of
/// width 768 with 12 layers and 12 heads.
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
    /// SHA-256 of the `tokenizer.json` that it was trained with. Set by training.
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
    /// Checks that the fields are valid for the captions and images of `model`.
    ///
    /// # Errors
    /// The first invalid field.
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
