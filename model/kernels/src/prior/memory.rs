//! The working memory of a pass over one pair of caption and image, allocated once.

use super::attention::{AttentionScratch, Group, shares};
use super::network::PriorNetwork;
use crate::grid::{Buffer, UNIT, zeros};

/// What a block keeps for its gradient; rows are slots.
pub(super) struct PriorBlockMemory {
    /// The residual stream before attention and before the MLP.
    pub x: [Buffer; 2],
    /// Mean and 1/deviation of the rows of both.
    pub statistics: [Vec<[f32; 2]>; 2],
    pub qkv: Buffer,
    pub shares: Buffer,
    pub attention: Buffer,
    /// The MLP's hidden layer before GELU; the backward pass replaces it with GELU's output.
    pub hidden: Buffer,
}

pub(super) struct PriorMemory {
    pub blocks: Vec<PriorBlockMemory>,
    /// The residual stream after the last block.
    pub x: Buffer,
    pub statistics: Vec<[f32; 2]>,
    /// Logits of the slots that predict text, and of those that predict the image; then their gradients.
    pub text: Buffer,
    pub image: Buffer,
    pub work: PriorWork,
}

/// What is not kept.
pub(super) struct PriorWork {
    /// Rows after a LayerNorm, and gradients of rows, `[slots, d]`.
    pub normal: Buffer,
    pub d_normal: Buffer,
    pub dx: Buffer,
    /// Rows of the MLP's hidden layer, `[slots, 4·d]`.
    pub wide: Buffer,
    /// Gradients of queries, keys and values, `[slots, 3·d]`.
    pub d_qkv: Buffer,
    /// The gradient of a matrix whose rows are not whole units.
    pub matrix: Buffer,
    pub attention: AttentionScratch,
}

impl PriorMemory {
    pub fn new(network: &PriorNetwork, groups: &[Vec<Group>]) -> Self {
        let sizes = &network.sizes;
        let (d, slots) = (sizes.width(), sizes.slots());
        let rows = |width: usize| zeros(slots * width);
        let statistics = || vec![[0.0; 2]; slots];
        let blocks = groups.iter().map(|groups| PriorBlockMemory {
            x: [rows(d), rows(d)],
            statistics: [statistics(), statistics()],
            qkv: rows(3 * d),
            shares: shares(sizes, groups),
            attention: rows(d),
            hidden: rows(4 * d),
        });
        let columns = |classes: usize| classes.next_multiple_of(UNIT);
        let (text, image) = (columns(sizes.text_vocab + 1), columns(sizes.image_vocab));
        Self {
            blocks: blocks.collect(),
            x: rows(d),
            statistics: statistics(),
            text: zeros((sizes.text - 1) * text),
            image: zeros(sizes.grid * sizes.grid * image),
            work: PriorWork {
                normal: rows(d),
                d_normal: rows(d),
                dx: rows(d),
                wide: rows(4 * d),
                d_qkv: rows(3 * d),
                matrix: zeros(d * text.max(image)),
                attention: AttentionScratch::new(sizes, groups),
            },
        }
    }
}
