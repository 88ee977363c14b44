//! The prior's layers and where their parameters are.

use crate::parameters::{Builder, Parameter};

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

    /// Slots of the stream.
    pub fn slots(&self) -> usize {
        self.text + self.grid * self.grid
    }
}

/// y = x·W + b: its sizes, and where W, `[n_in, n_out]`, and b begin among all parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearOffsets {
    pub n_in: usize,
    pub n_out: usize,
    pub w: usize,
    pub b: usize,
}

/// Where gain and bias of a LayerNorm begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormOffsets {
    pub gamma: usize,
    pub beta: usize,
}

/// A resblock pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockOffsets {
    pub norm_attention: NormOffsets,
    pub qkv: LinearOffsets,
    pub projection: LinearOffsets,
    pub norm_mlp: NormOffsets,
    pub fc1: LinearOffsets,
    pub fc2: LinearOffsets,
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

fn linear(builder: &mut Builder, name: &str, n_in: usize, n_out: usize) -> LinearOffsets {
    let w = builder.add(format!("{name}.weight"), vec![n_in, n_out]);
    let b = builder.add(format!("{name}.bias"), vec![n_out]);
    LinearOffsets { n_in, n_out, w, b }
}

fn norm(builder: &mut Builder, name: &str, d: usize) -> NormOffsets {
    let gamma = builder.add(format!("{name}.gamma"), vec![d]);
    NormOffsets { gamma, beta: builder.add(format!("{name}.beta"), vec![d]) }
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
        let block = |index: usize| {
            let name = |part: &str| format!("blocks.{index}.{part}");
            BlockOffsets {
                norm_attention: norm(b, &name("norm_attention"), d),
                qkv: linear(b, &name("qkv"), d, 3 * d),
                projection: linear(b, &name("projection"), d, d),
                norm_mlp: norm(b, &name("norm_mlp"), d),
                fc1: linear(b, &name("fc1"), d, 4 * d),
                fc2: linear(b, &name("fc2"), 4 * d, d),
            }
        };
        let blocks = (0..sizes.layers).map(block).collect();
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
