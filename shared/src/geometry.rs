//! The sizes that everything else follows from.

use serde::{Deserialize, Serialize};

/// Sizes of a model's two streams. The paper's: 256 text positions over 16,384 ids, then 32×32 image positions over
/// 8,192 ids, shown as 256×256 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Text positions: the start of the stream, then the caption's ids. A shorter caption is padded, a longer one cut.
    pub text_length: usize,
    /// Text vocabulary, special tokens included.
    pub text_vocab: usize,
    /// Side of the square grid of image tokens.
    pub grid: usize,
    /// Image vocabulary: entries of the dVAE's codebook.
    pub image_vocab: usize,
    /// Side of the square picture in pixels, `8 · grid`.
    pub image_size: usize,
}

impl Geometry {
    /// Most ids of a caption, `text_length − 1`.
    pub fn caption_length(&self) -> usize {
        self.text_length.saturating_sub(1)
    }

    /// Image tokens of one picture, `grid²`.
    pub fn image_length(&self) -> usize {
        self.grid * self.grid
    }

    /// Positions of the joint stream, `text_length + grid²` (1280 in the paper).
    pub fn stream_length(&self) -> usize {
        self.text_length + self.image_length()
    }
}
