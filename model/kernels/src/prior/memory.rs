//! The working memory of a pass over one pair of caption and image, allocated once.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use super::attention::{AttentionScratch, shares};
use super::network::PriorSizes;
use super::pattern::Pattern;
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
    /// Results, or gradients, of attention head by head, `[heads, 3, slots, head]`.
    pub heads: Buffer,
    pub attention: AttentionMemory,
}

/// Working memory of attention, one for each thread that computes some heads.
#[derive(Default)]
pub(super) struct AttentionMemory(Mutex<Vec<AttentionScratch>>);

impl AttentionMemory {
    /// Calls `work` with the memory of one thread, which `new` allocates if there is none.
    pub fn with(&self, new: impl FnOnce() -> AttentionScratch, work: impl FnOnce(&mut AttentionScratch)) {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = free.unwrap_or_else(new);
        work(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

impl PriorMemory {
    pub fn new(sizes: &PriorSizes) -> Self {
        Self::in_buffers(sizes, sizes.slots(), &zeros)
    }

    /// Values of a memory, without allocating it.
    pub fn values(sizes: &PriorSizes) -> usize {
        let statistics = 2 * (2 * sizes.layers + 1) * sizes.slots();
        let values = Cell::new(statistics + AttentionScratch::values(sizes));
        Self::in_buffers(sizes, 0, &|length| {
            values.set(values.get() + length);
            zeros(0)
        });
        values.get()
    }

    /// With statistics of `kept` slots.
    fn in_buffers(sizes: &PriorSizes, kept: usize, buffer: &dyn Fn(usize) -> Buffer) -> Self {
        let (d, slots) = (sizes.width(), sizes.slots());
        let rows = |width: usize| buffer(slots * width);
        let statistics = || vec![[0.0; 2]; kept];
        let blocks = (0..sizes.layers).map(|index| PriorBlockMemory {
            x: [rows(d), rows(d)],
            statistics: [statistics(), statistics()],
            qkv: rows(3 * d),
            shares: buffer(shares(sizes, Pattern::of_layer(index, sizes.layers))),
            attention: rows(d),
            hidden: rows(4 * d),
        });
        let columns = |classes: usize| classes.next_multiple_of(UNIT);
        let (text, image) = (columns(sizes.text_vocab + 1), columns(sizes.image_vocab));
        Self {
            blocks: blocks.collect(),
            x: rows(d),
            statistics: statistics(),
            text: buffer((sizes.text - 1) * text),
            image: buffer(sizes.grid * sizes.grid * image),
            work: PriorWork {
                normal: rows(d),
                d_normal: rows(d),
                dx: rows(d),
                wide: rows(4 * d),
                d_qkv: rows(3 * d),
                matrix: buffer(d * text.max(image)),
                heads: rows(3 * d),
                attention: AttentionMemory::default(),
            },
        }
    }
}
