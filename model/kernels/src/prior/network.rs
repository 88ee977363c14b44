//! The prior's layers and where their parameters are.

use crate::parameters::{Builder, Parameter};
#[cfg(not(target_arch = "wasm32"))]
use crate::transformer::attention::Heads;
use crate::transformer::layers::{BlockOffsets, LinearOffsets, NormOffsets, block, linear, norm};

/// The sizes of a prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorSizes {
    /// Resblock pairs.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Side of the convolutional attention's kernel.
    pub conv_kernel: usize,
    /// Text slots, the start token's included.
    pub text: usize,
    /// Side of the grid of image slots.
    pub grid: usize,
    /// Text ids.
    pub text_vocab: usize,
    /// Image tokens.
    pub image_vocab: usize,
}

impl PriorSizes {
    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.heads * self.head
    }

    /// The heads of a layer.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn all_heads(&self) -> Heads {
        Heads { count: self.heads, head: self.head }
    }

    /// Slots of the stream.
    pub fn slots(&self) -> usize {
        self.text + self.grid * self.grid
    }
}

/// Where the embeddings begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct EmbedOffsets {
    pub text: usize,
    pub padding: usize,
    pub text_position: usize,
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

/// All layers.
#[derive(Clone, Debug)]
pub struct PriorNetwork {
    /// The sizes.
    pub sizes: PriorSizes,
    /// All parameters, in the order in which they follow each other.
    pub parameters: Vec<Parameter>,
    pub(super) embed: EmbedOffsets,
    pub(super) blocks: Vec<BlockOffsets>,
    pub(super) norm: NormOffsets,
    pub(super) text_logits: LinearOffsets,
    pub(super) image_logits: LinearOffsets,
}

impl PriorNetwork {
    /// The layers of a prior.
    pub fn new(sizes: PriorSizes) -> Self {
        let mut builder = Builder::default();
        let b = &mut builder;
        let d = sizes.width();
        let mut table = |name: &str, rows: usize| b.add(format!("embed.{name}"), vec![rows, d]);
        let embed = EmbedOffsets {
            text: table("text", sizes.text_vocab),
            padding: table("padding", sizes.text),
            text_position: table("text_position", sizes.text),
            image: table("image", sizes.image_vocab),
            row: table("row", sizes.grid),
            column: table("column", sizes.grid),
        };
        let blocks = (0..sizes.layers).map(|index| block(b, &format!("blocks.{index}"), d)).collect();
        let norm = norm(b, "norm", d);
        let text_logits = linear(b, "text_logits", d, sizes.text_vocab + 1);
        let image_logits = linear(b, "image_logits", d, sizes.image_vocab);
        Self { sizes, parameters: builder.parameters, embed, blocks, norm, text_logits, image_logits }
    }

    /// Values of all parameters.
    pub fn length(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.length())
    }
}
