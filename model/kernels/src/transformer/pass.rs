//! Forward and backward pass of a stack of resblock pairs over the rows of one stream.

use super::attention::{Attention, AttentionGradient, Group, Heads, shares};
use super::layers::{BlockOffsets, LinearOffsets, NormOffsets};
use super::memory::{AttentionMemory, BlockMemory, StackMemory, StackWork};
use super::weights::{BlockWeights, PackedLayer};
use crate::grid::UNIT;
use crate::matrix::{Outer, Packed, Product, Rows, Then};
use crate::rows::{self, Columns, Gelu, GeluGradient, NormGradient};
use crate::simd::Processor;
use crate::threads::Threads;

/// Rows that products compute together.
const ROWS: usize = 6;

/// What a value costs, in multiplications, where it goes through an exponential function.
pub(crate) const EXP: usize = 16;

/// The CPU's vectors, the parameters, and how streams are computed.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub processor: Processor,
    pub heads: Heads,
    pub parameters: &'a [f32],
    /// Whether threads share one stream. Results do not depend on it.
    pub threads: Threads,
}

/// Resblock pairs.
#[derive(Clone, Copy)]
pub(crate) struct Stack<'a> {
    pub blocks: &'a [BlockOffsets],
    pub weights: &'a [BlockWeights],
}

impl Context<'_> {
    /// A LayerNorm of some rows.
    pub fn norm(&self, norm: &NormOffsets, x: &[f32], statistics: &mut [[f32; 2]], y: &mut [f32]) {
        let d = self.heads.width();
        let (gamma, beta) = (&self.parameters[norm.gamma..][..d], &self.parameters[norm.beta..][..d]);
        let piece = self.threads.piece(statistics.len(), 1);
        let tasks = x.chunks(piece * d).zip(statistics.chunks_mut(piece)).zip(y.chunks_mut(piece * d));
        self.threads.each(tasks.collect(), 4 * x.len(), |((x, statistics), y)| {
            self.processor.run(rows::Norm { x, gamma, beta, statistics, y });
        });
    }

    /// Adds the gradient of a LayerNorm to `dx`, and those of its gain and bias.
    pub fn norm_gradient(
        &self,
        norm: &NormOffsets,
        x: &[f32],
        statistics: &[[f32; 2]],
        dy: &[f32],
        dx: &mut [f32],
        gradients: &mut [f32],
    ) {
        let d = self.heads.width();
        let gamma = &self.parameters[norm.gamma..][..d];
        // A bias follows its gain.
        let (d_gamma, d_beta) = gradients[norm.gamma..norm.beta + d].split_at_mut(d);
        self.processor.run(NormGradient { x, gamma, statistics, dy, dx, d_gamma, d_beta });
    }

    /// a · b.
    pub fn product(&self, a: Rows<'_>, rows: usize, b: &Packed, then: Then<'_>, y: &mut [f32]) {
        let (piece, stride) = (self.threads.piece(rows, ROWS), b.columns());
        self.threads.slices(&mut y[..rows * stride], piece * stride, rows * b.rows() * stride, |index, y| {
            let a = Rows { first: a.first + index * piece * a.stride, ..a };
            self.processor.run(Product { a, rows: y.len() / stride, b, then, y, stride });
        });
    }

    /// x · W + b, added to y if `add`.
    pub fn forward(&self, layer: &PackedLayer, x: Rows<'_>, rows: usize, add: bool, y: &mut [f32]) {
        let then = if add { Then::Add(&layer.bias) } else { Then::Set(&layer.bias) };
        self.product(x, rows, &layer.forward, then, y);
    }

    /// The gradient of a layer's input.
    pub fn back(&self, layer: &PackedLayer, dy: Rows<'_>, rows: usize, dx: &mut [f32]) {
        self.product(dy, rows, &layer.backward, Then::Set(&[]), dx);
    }

    /// Attention of a layer; `heads` is working memory.
    fn attention(
        &self,
        groups: &[Group],
        (qkv, shares): (&[f32], &mut [f32]),
        memory: &AttentionMemory,
        heads: &mut [f32],
        y: &mut [f32],
    ) {
        let Heads { count, head: width } = self.heads;
        let (all, d) = (self.heads, self.heads.width());
        let part = qkv.len() / (3 * d) * width;
        let heads = &mut heads[..count * part];
        let work = 2 * shares.len() * width;
        let tasks = shares.chunks_exact_mut(shares.len() / count).zip(heads.chunks_exact_mut(part));
        self.threads.each(tasks.enumerate().collect(), work, |(head, (shares, y))| {
            memory.with(|scratch| {
                self.processor.run(Attention { heads: all, groups, head, qkv, shares, y, scratch });
            });
        });
        for (head, result) in heads.chunks_exact(part).enumerate() {
            interleave(result, head * width, d, y);
        }
    }

    /// The gradient of attention of a layer to `d_qkv`; `heads` is working memory.
    fn attention_gradient(
        &self,
        groups: &[Group],
        (qkv, shares, dy): (&[f32], &[f32], &[f32]),
        memory: &AttentionMemory,
        heads: &mut [f32],
        d_qkv: &mut [f32],
    ) {
        let Heads { count, head: width } = self.heads;
        let (all, d) = (self.heads, self.heads.width());
        let part = qkv.len() / (3 * d) * width;
        let heads = &mut heads[..3 * count * part];
        let work = 4 * shares.len() * width;
        let tasks = shares.chunks_exact(shares.len() / count).zip(heads.chunks_exact_mut(3 * part));
        self.threads.each(tasks.enumerate().collect(), work, |(head, (shares, d_qkv))| {
            memory.with(|scratch| {
                self.processor.run(AttentionGradient {
                    heads: all,
                    groups,
                    head,
                    qkv,
                    shares,
                    dy,
                    d_qkv,
                    scratch,
                });
            });
        });
        for (place, part) in heads.chunks_exact(part).enumerate() {
            interleave(part, place % 3 * d + place / 3 * width, 3 * d, d_qkv);
        }
    }

    /// Adds the gradients of a layer's parameters. `dy` has rows of whole units.
    pub fn learn(
        &self,
        linear: &LinearOffsets,
        x: Rows<'_>,
        dy: &[f32],
        gradients: &mut [f32],
        matrix: &mut [f32],
    ) {
        let LinearOffsets { n_in, n_out, w, b } = *linear;
        let columns = n_out.next_multiple_of(UNIT);
        let rows = dy.len() / columns;
        let right = Rows { data: dy, first: 0, stride: columns };
        let run = |c: &mut [f32]| {
            let piece = self.threads.piece(n_in, ROWS);
            self.threads.slices(c, piece * columns, rows * n_in * columns, |index, c| {
                let (a, m) = (Rows { first: x.first + index * piece, ..x }, c.len() / columns);
                self.processor.run(Outer { a, m, b: right, n: columns, rows, c, stride: columns });
            });
        };
        if columns == n_out {
            run(&mut gradients[w..][..n_in * n_out]);
        } else {
            let matrix = &mut matrix[..n_in * columns];
            matrix.fill(0.0);
            run(matrix);
            for (row, sums) in gradients[w..].chunks_exact_mut(n_out).zip(matrix.chunks_exact(columns)) {
                for (gradient, sum) in row.iter_mut().zip(sums) {
                    *gradient += sum;
                }
            }
        }
        if columns == n_out {
            self.processor.run(Columns { x: dy, sum: &mut gradients[b..][..n_out] });
        } else {
            for dy in dy.chunks_exact(columns) {
                for (gradient, dy) in gradients[b..][..n_out].iter_mut().zip(dy) {
                    *gradient += dy;
                }
            }
        }
    }
}

/// Copies rows of a head to columns of rows of `stride`, from `at` on.
fn interleave(x: &[f32], at: usize, stride: usize, y: &mut [f32]) {
    let head = x.len() / (y.len() / stride);
    for (x, y) in x.chunks_exact(head).zip(y.chunks_exact_mut(stride)) {
        y[at..at + head].copy_from_slice(x);
    }
}

/// All rows of a matrix with rows of `stride`.
pub(crate) fn all(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, first: 0, stride }
}

impl StackMemory {
    /// Passes the rows that [`StackMemory::input`] holds through all blocks, to `x`. `groups` are those of each block's queries.
    pub fn forward<'g>(
        &mut self,
        cx: &Context<'_>,
        stack: Stack<'_>,
        slots: usize,
        groups: impl Fn(usize) -> &'g [Group],
        work: &mut StackWork,
    ) {
        let d = cx.heads.width();
        let rows = slots * d;
        let Self { blocks, x } = self;
        for index in 0..blocks.len() {
            let (block, weights) = (&stack.blocks[index], &stack.weights[index]);
            let (before, after) = blocks.split_at_mut(index + 1);
            let BlockMemory { x: [x1, x2], statistics: [s1, s2], qkv, shares, attention, hidden } =
                &mut before[index];
            let (x1, x2) = (&x1[..rows], &mut x2[..rows]);
            let (qkv, hidden) = (&mut qkv[..3 * rows], &mut hidden[..4 * rows]);
            let (normal, wide) = (&mut work.normal[..rows], &mut work.wide[..4 * rows]);
            let attention = &mut attention[..rows];
            cx.norm(&block.norm_attention, x1, &mut s1[..slots], normal);
            cx.forward(&weights.qkv, all(normal, d), slots, false, qkv);
            let groups = groups(index);
            let kept = &mut shares[..kept(cx.heads, groups)];
            cx.attention(groups, (qkv, kept), &work.attention, &mut work.heads, attention);
            x2.copy_from_slice(x1);
            cx.forward(&weights.projection, all(attention, d), slots, true, x2);
            cx.norm(&block.norm_mlp, x2, &mut s2[..slots], normal);
            cx.forward(&weights.fc1, all(normal, d), slots, false, hidden);
            let piece = cx.threads.piece(hidden.len(), UNIT);
            cx.threads.slices(wide, piece, EXP * hidden.len(), |index, y| {
                cx.processor.run(Gelu { x: &hidden[index * piece..][..y.len()], y });
            });
            let next = &mut after.first_mut().map_or(&mut *x, |block| &mut block.x[0])[..rows];
            next.copy_from_slice(x2);
            cx.forward(&weights.fc2, all(wide, 4 * d), slots, true, next);
        }
    }

    /// Takes the gradient of `x`, which is `work.dx`, back to that of the input, and adds the gradients of all parameters.
    pub fn backward<'g>(
        &mut self,
        cx: &Context<'_>,
        stack: Stack<'_>,
        slots: usize,
        groups: impl Fn(usize) -> &'g [Group],
        work: &mut StackWork,
        gradients: &mut [f32],
    ) {
        let d = cx.heads.width();
        let rows = slots * d;
        for (index, memory) in self.blocks.iter_mut().enumerate().rev() {
            let (block, weights) = (&stack.blocks[index], &stack.weights[index]);
            let BlockMemory { x: [x1, x2], statistics: [s1, s2], qkv, shares, attention, hidden } = memory;
            let (x1, x2, attention) = (&x1[..rows], &x2[..rows], &attention[..rows]);
            let (s1, s2) = (&mut s1[..slots], &mut s2[..slots]);
            let (qkv, hidden) = (&qkv[..3 * rows], &mut hidden[..4 * rows]);
            let StackWork { normal, d_normal, dx, wide, d_qkv, heads, attention: scratch } = &mut *work;
            let (normal, d_normal, dx) = (&mut normal[..rows], &mut d_normal[..rows], &mut dx[..rows]);
            let (wide, d_qkv) = (&mut wide[..4 * rows], &mut d_qkv[..3 * rows]);
            cx.back(&weights.fc2, all(dx, d), slots, wide);
            let length = hidden.len();
            let piece = cx.threads.piece(length, UNIT);
            let tasks = hidden.chunks_mut(piece).zip(wide.chunks_mut(piece)).collect();
            cx.threads.each(tasks, EXP * length, |(x, dy)| cx.processor.run(GeluGradient { x, dy }));
            cx.learn(&block.fc2, all(hidden, 4 * d), dx, gradients, &mut []);
            cx.norm(&block.norm_mlp, x2, s2, normal);
            cx.learn(&block.fc1, all(normal, d), wide, gradients, &mut []);
            cx.back(&weights.fc1, all(wide, 4 * d), slots, d_normal);
            cx.norm_gradient(&block.norm_mlp, x2, s2, d_normal, dx, gradients);
            cx.learn(&block.projection, all(attention, d), dx, gradients, &mut []);
            cx.back(&weights.projection, all(dx, d), slots, d_normal);
            let groups = groups(index);
            let kept = (qkv, &shares[..kept(cx.heads, groups)], &d_normal[..]);
            cx.attention_gradient(groups, kept, scratch, heads, d_qkv);
            cx.norm(&block.norm_attention, x1, s1, normal);
            cx.learn(&block.qkv, all(normal, d), d_qkv, gradients, &mut []);
            cx.back(&weights.qkv, all(d_qkv, 3 * d), slots, d_normal);
            cx.norm_gradient(&block.norm_attention, x1, s1, d_normal, dx, gradients);
        }
    }
}

/// Shares that attention keeps.
fn kept(heads: Heads, groups: &[Group]) -> usize {
    shares(heads.count, groups.iter().map(Group::size))
}
