//! The working memory of a pass over one stream, allocated once.

use std::sync::{Mutex, PoisonError};

use super::attention::{AttentionScratch, GroupSize, Heads};
use crate::grid::Buffer;

/// What a block keeps for its gradient; rows are slots.
pub(crate) struct BlockMemory {
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

/// What a stack of blocks keeps.
pub(crate) struct StackMemory {
    pub blocks: Vec<BlockMemory>,
    /// The residual stream after the last block.
    pub x: Buffer,
}

/// What is not kept.
pub(crate) struct StackWork {
    /// Rows after a LayerNorm, and gradients of rows, `[slots, d]`.
    pub normal: Buffer,
    pub d_normal: Buffer,
    /// The gradient of the residual stream.
    pub dx: Buffer,
    /// Rows of the MLP's hidden layer, `[slots, 4·d]`.
    pub wide: Buffer,
    /// Gradients of queries, keys and values, `[slots, 3·d]`.
    pub d_qkv: Buffer,
    /// Results, or gradients, of attention head by head, `[heads, 3, slots, head]`.
    pub heads: Buffer,
    pub attention: AttentionMemory,
}

/// Working memory of attention, one for each thread that computes some heads.
pub(crate) struct AttentionMemory {
    free: Mutex<Vec<AttentionScratch>>,
    head: usize,
    largest: GroupSize,
}

impl AttentionMemory {
    /// Calls `work` with the memory of one thread, which is allocated if there is none.
    pub fn with(&self, work: impl FnOnce(&mut AttentionScratch)) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = free.unwrap_or_else(|| AttentionScratch::new(self.head, self.largest));
        work(&mut scratch);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

/// Makes a buffer of some values.
pub(crate) type Allocate<'a> = &'a dyn Fn(usize) -> Buffer;

impl StackMemory {
    /// For streams of up to `slots` slots. Attention keeps as many shares as `shares` says of each layer; `statistics` is `slots`, or 0
    /// where only the buffers are counted.
    pub fn new(
        heads: Heads,
        slots: usize,
        shares: impl Iterator<Item = usize>,
        statistics: usize,
        buffer: Allocate<'_>,
    ) -> Self {
        let d = heads.width();
        let rows = |width: usize| buffer(slots * width);
        let pairs = || vec![[0.0; 2]; statistics];
        let blocks = shares.map(|shares| BlockMemory {
            x: [rows(d), rows(d)],
            statistics: [pairs(), pairs()],
            qkv: rows(3 * d),
            shares: buffer(shares),
            attention: rows(d),
            hidden: rows(4 * d),
        });
        Self { blocks: blocks.collect(), x: rows(d) }
    }

    /// Where the rows that enter the first block are written.
    pub fn input(&mut self) -> &mut Buffer {
        self.blocks.first_mut().map_or(&mut self.x, |block| &mut block.x[0])
    }
}

impl StackWork {
    /// For streams of up to `slots` slots, and groups that are nowhere larger than `largest`.
    pub fn new(heads: Heads, slots: usize, largest: GroupSize, buffer: Allocate<'_>) -> Self {
        let d = heads.width();
        let rows = |width: usize| buffer(slots * width);
        Self {
            normal: rows(d),
            d_normal: rows(d),
            dx: rows(d),
            wide: rows(4 * d),
            d_qkv: rows(3 * d),
            heads: rows(3 * d),
            attention: AttentionMemory { free: Mutex::default(), head: heads.head, largest },
        }
    }
}
