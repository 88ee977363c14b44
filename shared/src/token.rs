//! The two kinds of token of the joint stream `[text | image]` (section 2 of the paper).
//!
//! Two types, so that a text id cannot be passed as an image token.

use serde::{Deserialize, Serialize};

/// A BPE id of the caption, below [`Geometry::text_vocab`](crate::Geometry::text_vocab).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TextToken(pub u32);

/// A codebook index of the dVAE, below [`Geometry::image_vocab`](crate::Geometry::image_vocab).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageToken(pub u16);
