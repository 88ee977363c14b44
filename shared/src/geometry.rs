//! Sizes of a model's token streams and images.

use serde::{Deserialize, Serialize};

/// Sizes of a model's token stream, `[text | image]`. In the paper: 256 text positions over 16,384 ids, then 32×32 image
/// positions over 8,192 tokens, decoded to 256×256 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Text positions: the start token, then the caption's ids. A shorter caption is padded, a longer one is truncated.
    pub text_length: usize,
    /// Size of the text vocabulary, with special tokens.
    pub text_vocab: usize,
    /// Side of the square grid of image tokens.
    pub grid: usize,
    /// Size of the image vocabulary, the dVAE's codebook.
    pub image_vocab: usize,
    /// Side of the square image in pixels, `8 · grid`.
    pub image_size: usize,
}

impl Geometry {
    /// Maximum number of ids of a caption, `text_length − 1`.
    pub fn caption_length(&self) -> usize {
        self.text_length.saturating_sub(1)
    }

    /// Number of tokens of an image, `grid²`.
    pub fn image_length(&self) -> usize {
        self.grid * self.grid
    }

    /// Number of positions of the stream, `text_length + grid²` (1280 in the paper).
    pub fn stream_length(&self) -> usize {
        self.text_length + self.image_length()
    }
}
