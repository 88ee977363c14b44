//! Forward and backward pass of one pair of caption and image.

use super::attention::{Attention, AttentionGradient, AttentionScratch, Group};
use super::memory::{AttentionMemory, PriorBlockMemory, PriorMemory};
use super::network::{LinearOffsets, NormOffsets, PriorNetwork};
use super::pair::Pair;
use super::weights::{PackedLayer, PriorWeights};
use crate::grid::UNIT;
use crate::matrix::{Outer, Packed, Product, Rows, Then};
use crate::rows::{self, Columns, CrossEntropy, Gelu, GeluGradient, NormGradient};
use crate::simd::Processor;
use crate::threads::Threads;

/// Rows that products compute together.
const ROWS: usize = 6;

/// What a value costs, in multiplications, where it goes through an exponential function.
const EXP: usize = 16;

/// The CPU's vectors, the parameters, and the packed matrices.
#[derive(Clone, Copy)]
pub(super) struct PriorContext<'a> {
    pub processor: Processor,
    pub network: &'a PriorNetwork,
    pub parameters: &'a [f32],
    pub weights: &'a PriorWeights,
    /// Of each layer.
    pub groups: &'a [Vec<Group>],
    /// Whether threads share one pair. Results do not depend on it.
    pub threads: Threads,
}

impl PriorContext<'_> {
    fn width(&self) -> usize {
        self.network.sizes.width()
    }

    fn norm(&self, norm: &NormOffsets, x: &[f32], statistics: &mut [[f32; 2]], y: &mut [f32]) {
        let d = self.width();
        let (gamma, beta) = (&self.parameters[norm.gamma..][..d], &self.parameters[norm.beta..][..d]);
        let piece = self.threads.piece(statistics.len(), 1);
        let tasks = x.chunks(piece * d).zip(statistics.chunks_mut(piece)).zip(y.chunks_mut(piece * d));
        self.threads.each(tasks.collect(), 4 * x.len(), |((x, statistics), y)| {
            self.processor.run(rows::Norm { x, gamma, beta, statistics, y });
        });
    }

    /// Adds the gradient of a LayerNorm to `dx`, and those of its gain and bias.
    fn norm_gradient(
        &self,
        norm: &NormOffsets,
        x: &[f32],
        statistics: &[[f32; 2]],
        dy: &[f32],
        dx: &mut [f32],
        gradients: &mut [f32],
    ) {
        let d = self.width();
        let gamma = &self.parameters[norm.gamma..][..d];
        // A bias follows its gain.
        let (d_gamma, d_beta) = gradients[norm.gamma..norm.beta + d].split_at_mut(d);
        self.processor.run(NormGradient { x, gamma, statistics, dy, dx, d_gamma, d_beta });
    }

    fn product(&self, a: Rows<'_>, rows: usize, b: &Packed, then: Then<'_>, y: &mut [f32]) {
        let (piece, stride) = (self.threads.piece(rows, ROWS), b.columns());
        self.threads.slices(&mut y[..rows * stride], piece * stride, rows * b.rows() * stride, |index, y| {
            let a = Rows { first: a.first + index * piece * a.stride, ..a };
            self.processor.run(Product { a, rows: y.len() / stride, b, then, y, stride });
        });
    }

    fn forward(&self, layer: &PackedLayer, x: Rows<'_>, rows: usize, add: bool, y: &mut [f32]) {
        let then = if add { Then::Add(&layer.bias) } else { Then::Set(&layer.bias) };
        self.product(x, rows, &layer.forward, then, y);
    }

    fn back(&self, layer: &PackedLayer, dy: Rows<'_>, rows: usize, dx: &mut [f32]) {
        self.product(dy, rows, &layer.backward, Then::Set(&[]), dx);
    }

    /// Attention of a layer; `heads` is working memory.
    fn attention(
        &self,
        index: usize,
        (qkv, shares): (&[f32], &mut [f32]),
        memory: &AttentionMemory,
        heads: &mut [f32],
        y: &mut [f32],
    ) {
        let (sizes, groups) = (&self.network.sizes, &self.groups[index][..]);
        let (d, part) = (sizes.width(), sizes.slots() * sizes.head);
        let heads = &mut heads[..sizes.heads * part];
        let work = 2 * shares.len() * sizes.head;
        let tasks = shares.chunks_exact_mut(shares.len() / sizes.heads).zip(heads.chunks_exact_mut(part));
        self.threads.each(tasks.enumerate().collect(), work, |(head, (shares, y))| {
            memory.with(self.scratch(), |scratch| {
                self.processor.run(Attention { sizes, groups, head, qkv, shares, y, scratch });
            });
        });
        for (head, result) in heads.chunks_exact(part).enumerate() {
            interleave(result, head * sizes.head, d, y);
        }
    }

    /// The gradient of attention of a layer to `d_qkv`; `heads` is working memory.
    fn attention_gradient(
        &self,
        index: usize,
        (qkv, shares, dy): (&[f32], &[f32], &[f32]),
        memory: &AttentionMemory,
        heads: &mut [f32],
        d_qkv: &mut [f32],
    ) {
        let (sizes, groups) = (&self.network.sizes, &self.groups[index][..]);
        let (d, part) = (sizes.width(), sizes.slots() * sizes.head);
        let work = 4 * shares.len() * sizes.head;
        let tasks = shares.chunks_exact(shares.len() / sizes.heads).zip(heads.chunks_exact_mut(3 * part));
        self.threads.each(tasks.enumerate().collect(), work, |(head, (shares, d_qkv))| {
            memory.with(self.scratch(), |scratch| {
                self.processor.run(AttentionGradient {
                    sizes,
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
            interleave(part, place % 3 * d + place / 3 * sizes.head, 3 * d, d_qkv);
        }
    }

    fn scratch(&self) -> impl FnOnce() -> AttentionScratch {
        || AttentionScratch::new(&self.network.sizes)
    }

    /// Adds the gradients of a layer's parameters. `dy` has rows of whole units.
    fn learn(
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
fn all(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, first: 0, stride }
}

impl PriorMemory {
    /// Tokens to logits.
    pub fn forward(&mut self, cx: &PriorContext<'_>, pair: &Pair<'_>) {
        let (d, slots) = (cx.width(), cx.network.sizes.slots());
        let Self { blocks, x, statistics, text, image, work } = self;
        embed(cx, pair, blocks.first_mut().map_or(&mut *x, |block| &mut block.x[0]));
        for index in 0..blocks.len() {
            let (block, weights) = (&cx.network.blocks[index], &cx.weights.blocks[index]);
            let (before, after) = blocks.split_at_mut(index + 1);
            let PriorBlockMemory { x: [x1, x2], statistics: [s1, s2], qkv, shares, attention, hidden } =
                &mut before[index];
            cx.norm(&block.norm_attention, x1, s1, &mut work.normal);
            cx.forward(&weights.qkv, all(&work.normal, d), slots, false, qkv);
            cx.attention(index, (qkv, shares), &work.attention, &mut work.heads, attention);
            x2.copy_from_slice(x1);
            cx.forward(&weights.projection, all(attention, d), slots, true, x2);
            cx.norm(&block.norm_mlp, x2, s2, &mut work.normal);
            cx.forward(&weights.fc1, all(&work.normal, d), slots, false, hidden);
            let piece = cx.threads.piece(hidden.len(), UNIT);
            cx.threads.slices(&mut work.wide, piece, EXP * hidden.len(), |index, y| {
                cx.processor.run(Gelu { x: &hidden[index * piece..][..y.len()], y });
            });
            let next = after.first_mut().map_or(&mut *x, |block| &mut block.x[0]);
            next.copy_from_slice(x2);
            cx.forward(&weights.fc2, all(&work.wide, 4 * d), slots, true, next);
        }
        cx.norm(&cx.network.norm, x, statistics, &mut work.normal);
        let normal = all(&work.normal, d);
        let places = cx.network.sizes.text - 1;
        cx.forward(&cx.weights.text_logits, normal, places, false, text);
        // The last text slot predicts the first image token.
        let from = Rows { first: places * d, ..normal };
        cx.forward(&cx.weights.image_logits, from, slots - 1 - places, false, image);
    }

    /// Logits to the gradient of the weighted losses. Returns the sums of cross-entropies of text and image.
    pub fn compare(&mut self, cx: &PriorContext<'_>, pair: &Pair<'_>, weights: [f32; 2]) -> [f64; 2] {
        let sizes = &cx.network.sizes;
        // The sum of cross-entropies of some rows of logits.
        let sum =
            |kind: usize, logits: &mut [f32], columns, classes, target: &(dyn Fn(usize) -> _ + Sync)| {
                let rows = logits.len() / columns;
                let mut losses = vec![0.0; rows];
                let piece = cx.threads.piece(rows, 1);
                let length = logits.len();
                let tasks = logits.chunks_mut(piece * columns).zip(losses.chunks_mut(piece)).enumerate();
                cx.threads.each(tasks.collect(), EXP * length, |(index, (rows, losses))| {
                    let rows = rows.chunks_exact_mut(columns).zip(losses).enumerate();
                    for (place, (logits, loss)) in rows {
                        match target(index * piece + place) {
                            Some(target) => {
                                let weight = weights[kind];
                                *loss = cx.processor.run(CrossEntropy { logits, classes, target, weight });
                            }
                            None => logits.fill(0.0),
                        }
                    }
                });
                losses.into_iter().map(f64::from).sum::<f64>()
            };
        let columns = |layer: &PackedLayer| layer.forward.columns();
        let Self { text, image, .. } = self;
        let target = |place| pair.text_target(place, sizes.text_vocab);
        let text = sum(0, text, columns(&cx.weights.text_logits), sizes.text_vocab + 1, &target);
        let target = |place: usize| Some(pair.image[place] as usize);
        let image = sum(1, image, columns(&cx.weights.image_logits), sizes.image_vocab, &target);
        [text, image]
    }

    /// Adds the gradients of all parameters; the logits hold those of the logits.
    pub fn backward(&mut self, cx: &PriorContext<'_>, pair: &Pair<'_>, gradients: &mut [f32]) {
        let (d, slots) = (cx.width(), cx.network.sizes.slots());
        let places = cx.network.sizes.text - 1;
        let Self { blocks, x, statistics, text, image, work } = self;
        // The last LayerNorm's result once more.
        cx.norm(&cx.network.norm, x, statistics, &mut work.normal);
        let normal = all(&work.normal, d);
        let from = Rows { first: places * d, ..normal };
        let (text_layer, image_layer) = (&cx.weights.text_logits, &cx.weights.image_logits);
        cx.learn(&text_layer.linear, normal, text, gradients, &mut work.matrix);
        cx.learn(&image_layer.linear, from, image, gradients, &mut work.matrix);
        let d_normal = &mut work.d_normal;
        d_normal[(slots - 1) * d..].fill(0.0);
        cx.back(text_layer, all(text, text_layer.forward.columns()), places, d_normal);
        let rest = &mut d_normal[places * d..];
        cx.back(image_layer, all(image, image_layer.forward.columns()), slots - 1 - places, rest);
        work.dx.fill(0.0);
        cx.norm_gradient(&cx.network.norm, x, statistics, d_normal, &mut work.dx, gradients);
        for (index, memory) in blocks.iter_mut().enumerate().rev() {
            let (block, weights) = (&cx.network.blocks[index], &cx.weights.blocks[index]);
            let PriorBlockMemory { x: [x1, x2], statistics: [s1, s2], qkv, shares, attention, hidden } =
                memory;
            let dx = &mut work.dx;
            cx.back(&weights.fc2, all(dx, d), slots, &mut work.wide);
            let length = hidden.len();
            let piece = cx.threads.piece(length, UNIT);
            let tasks = hidden.chunks_mut(piece).zip(work.wide.chunks_mut(piece)).collect();
            cx.threads.each(tasks, EXP * length, |(x, dy)| cx.processor.run(GeluGradient { x, dy }));
            cx.learn(&block.fc2, all(hidden, 4 * d), dx, gradients, &mut work.matrix);
            cx.norm(&block.norm_mlp, x2, s2, &mut work.normal);
            cx.learn(&block.fc1, all(&work.normal, d), &work.wide, gradients, &mut work.matrix);
            cx.back(&weights.fc1, all(&work.wide, 4 * d), slots, &mut work.d_normal);
            cx.norm_gradient(&block.norm_mlp, x2, s2, &work.d_normal, dx, gradients);
            cx.learn(&block.projection, all(attention, d), dx, gradients, &mut work.matrix);
            cx.back(&weights.projection, all(dx, d), slots, &mut work.d_normal);
            let kept = (&qkv[..], &shares[..], &work.d_normal[..]);
            cx.attention_gradient(index, kept, &work.attention, &mut work.heads, &mut work.d_qkv);
            cx.norm(&block.norm_attention, x1, s1, &mut work.normal);
            cx.learn(&block.qkv, all(&work.normal, d), &work.d_qkv, gradients, &mut work.matrix);
            cx.back(&weights.qkv, all(&work.d_qkv, 3 * d), slots, &mut work.d_normal);
            cx.norm_gradient(&block.norm_attention, x1, s1, &work.d_normal, dx, gradients);
        }
        embed_gradient(cx, pair, &work.dx, gradients);
    }
}

/// Where the rows begin whose sum is a slot's embedding.
fn tables(cx: &PriorContext<'_>, pair: &Pair<'_>, slot: usize) -> [usize; 3] {
    let (embed, sizes, d) = (&cx.network.embed, &cx.network.sizes, cx.width());
    if slot < sizes.text {
        let token = match slot.checked_sub(1).and_then(|place| pair.input.get(place)) {
            Some(id) => embed.text + *id as usize * d,
            // Slot 0 is the start token.
            None => embed.padding + slot * d,
        };
        // A row of text has no third part: its position counts once.
        [token, embed.text_position + slot * d, usize::MAX]
    } else {
        let place = slot - sizes.text;
        let (row, column) = (place / sizes.grid, place % sizes.grid);
        [embed.image + pair.seen[place] as usize * d, embed.row + row * d, embed.column + column * d]
    }
}

fn embed(cx: &PriorContext<'_>, pair: &Pair<'_>, x: &mut [f32]) {
    let d = cx.width();
    for (slot, x) in x.chunks_exact_mut(d).enumerate() {
        x.fill(0.0);
        for table in tables(cx, pair, slot).into_iter().filter(|&table| table < usize::MAX) {
            for (x, value) in x.iter_mut().zip(&cx.parameters[table..][..d]) {
                *x += value;
            }
        }
    }
}

fn embed_gradient(cx: &PriorContext<'_>, pair: &Pair<'_>, dx: &[f32], gradients: &mut [f32]) {
    let d = cx.width();
    for (slot, dx) in dx.chunks_exact(d).enumerate() {
        for table in tables(cx, pair, slot).into_iter().filter(|&table| table < usize::MAX) {
            for (gradient, dx) in gradients[table..][..d].iter_mut().zip(dx) {
                *gradient += dx;
            }
        }
    }
}
