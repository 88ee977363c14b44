//! What CLIP's two towers have in common: a stack of blocks, and a feature that is projected from one of its rows.

use super::network::{TowerOffsets, TowerSizes};
use crate::grid::{Buffer, UNIT};
use crate::matrix::{Outer, Packed, Rows, Then};
use crate::simd::Processor;
use crate::threads::Threads;
use crate::transformer::attention::{Group, GroupSize, Heads, shares};
use crate::transformer::memory::{Allocate, StackMemory, StackWork};
use crate::transformer::pass::{Context, Stack, all};
use crate::transformer::weights::{BlockWeights, PackedLayer, packed_values};

/// A tower's matrices, packed once for each update.
pub(super) struct TowerWeights {
    pub blocks: Vec<BlockWeights>,
    /// The projection, for the forward pass and, transposed, for the backward pass.
    projection: [Packed; 2],
}

impl TowerWeights {
    /// Weights of zeros.
    pub fn zeros(offsets: &TowerOffsets, width: usize, embedding: usize) -> Self {
        Self {
            blocks: offsets.blocks.iter().map(BlockWeights::zeros).collect(),
            projection: [Packed::zeros(width, embedding), Packed::zeros(embedding, width)],
        }
    }

    /// Values of the matrices.
    pub fn values(offsets: &TowerOffsets, width: usize, embedding: usize) -> usize {
        packed_values(offsets.blocks.iter().flat_map(|block| block.layers())) + 2 * width * embedding
    }

    /// Packs the projection. Returns the layers that are still to be packed.
    pub fn set(&mut self, offsets: &TowerOffsets, parameters: &[f32]) -> Vec<&mut PackedLayer> {
        let [forward, backward] = &mut self.projection;
        let w = &parameters[offsets.projection..][..forward.rows() * forward.columns()];
        forward.set(w);
        backward.set_transposed(w);
        self.blocks.iter_mut().flat_map(BlockWeights::layers_mut).collect()
    }
}

/// What a tower keeps of one stream.
pub(super) struct TowerMemory {
    pub stack: StackMemory,
    /// The row that is projected, after its LayerNorm, and that LayerNorm's statistics.
    row: Buffer,
    statistics: [[f32; 2]; 1],
}

impl TowerMemory {
    /// For streams of up to `slots` slots, whose groups keep `shares` values in each layer; `statistics` is `slots`, or 0 where only the
    /// buffers are counted.
    pub fn new(
        sizes: &TowerSizes,
        slots: usize,
        shares: usize,
        statistics: usize,
        buffer: Allocate<'_>,
    ) -> Self {
        let shares = std::iter::repeat_n(shares, sizes.layers);
        let stack = StackMemory::new(sizes.all_heads(), slots, shares, statistics, buffer);
        Self { stack, row: buffer(sizes.width), statistics: [[0.0; 2]] }
    }
}

/// Queries of a group: fewer keys are computed that no query sees, the fewer they are.
const QUERIES: usize = 4 * UNIT;

/// Groups of a stream of which each slot attends to the earlier ones and itself.
pub(super) fn causal(slots: usize) -> Vec<Group> {
    let cuts = (0..slots).step_by(QUERIES).map(|from| (from, slots.min(from + QUERIES)));
    cuts.map(|(from, to)| Group::new((from..to).collect(), (0..to).collect(), |query, key| key <= query))
        .collect()
}

/// Groups of a stream of which each slot attends to all.
pub(super) fn full(slots: usize) -> Vec<Group> {
    let cuts = (0..slots).step_by(QUERIES).map(|from| (from, slots.min(from + QUERIES)));
    cuts.map(|(from, to)| Group::new((from..to).collect(), (0..slots).collect(), |_, _| true)).collect()
}

/// Values of attention that a layer keeps of a stream.
pub(super) fn layer_shares(sizes: &TowerSizes, groups: &[Group]) -> usize {
    shares(sizes.heads, groups.iter().map(Group::size))
}

/// The working memory of a tower on one thread.
pub(super) fn work(sizes: &TowerSizes, slots: usize, groups: &[Group], buffer: Allocate<'_>) -> StackWork {
    StackWork::new(sizes.all_heads(), slots, GroupSize::largest(groups.iter().map(Group::size)), buffer)
}

/// A tower, with the parameters of the whole CLIP.
#[derive(Clone, Copy)]
pub(super) struct Tower<'a> {
    pub sizes: &'a TowerSizes,
    pub offsets: &'a TowerOffsets,
    pub weights: &'a TowerWeights,
    pub parameters: &'a [f32],
}

impl Tower<'_> {
    pub fn context(&self) -> Context<'_> {
        let heads: Heads = self.sizes.all_heads();
        let (processor, parameters) = (Processor::detect(), self.parameters);
        Context { processor, heads, parameters, threads: Threads::alone() }
    }

    fn stack(&self) -> Stack<'_> {
        Stack { blocks: &self.offsets.blocks, weights: &self.weights.blocks }
    }

    /// The feature of a stream whose `slots` rows are in the memory's input, from row `from` after the last block: `[embedding]`.
    pub fn forward(
        &self,
        memory: &mut TowerMemory,
        (slots, from): (usize, usize),
        groups: &[Group],
        work: &mut StackWork,
        feature: &mut [f32],
    ) {
        let (cx, d) = (self.context(), self.sizes.width);
        memory.stack.forward(&cx, self.stack(), slots, |_| groups, work);
        let x = &memory.stack.x[from * d..][..d];
        cx.norm(&self.offsets.norm, x, &mut memory.statistics, &mut memory.row);
        cx.product(all(&memory.row, d), 1, &self.weights.projection[0], Then::Set(&[]), feature);
    }

    /// Takes a feature's gradient back to that of the input, which becomes the first `slots` rows of `work.dx`, and adds the gradients
    /// of all parameters between.
    pub fn backward(
        &self,
        memory: &mut TowerMemory,
        (slots, from): (usize, usize),
        groups: &[Group],
        work: &mut StackWork,
        d_feature: &[f32],
        gradients: &mut [f32],
    ) {
        let (cx, d, e) = (self.context(), self.sizes.width, d_feature.len());
        let c = &mut gradients[self.offsets.projection..][..d * e];
        let b = Rows { data: d_feature, first: 0, stride: e };
        cx.processor.run(Outer { a: all(&memory.row, d), m: d, b, n: e, rows: 1, c, stride: e });
        let d_row = &mut work.d_normal[..d];
        cx.product(all(d_feature, e), 1, &self.weights.projection[1], Then::Set(&[]), d_row);
        work.dx[..slots * d].fill(0.0);
        let (x, dx) = (&memory.stack.x[from * d..][..d], &mut work.dx[from * d..][..d]);
        cx.norm_gradient(&self.offsets.norm, x, &memory.statistics, &work.d_normal[..d], dx, gradients);
        memory.stack.backward(&cx, self.stack(), slots, |_| groups, work, gradients);
    }
}
