//! Forward and backward pass of one pair of caption and image.

use super::memory::PriorMemory;
use super::network::PriorNetwork;
use super::pair::Pair;
use super::weights::PriorWeights;
use crate::matrix::Rows;
use crate::rows::CrossEntropy;
use crate::transformer::attention::Group;
use crate::transformer::pass::{Context, EXP, Stack, all};
use crate::transformer::weights::PackedLayer;

/// What a pass reads.
#[derive(Clone, Copy)]
pub(super) struct PriorContext<'a> {
    pub base: Context<'a>,
    pub network: &'a PriorNetwork,
    pub weights: &'a PriorWeights,
    /// Of each layer.
    pub groups: &'a [Vec<Group>],
}

impl PriorContext<'_> {
    fn width(&self) -> usize {
        self.network.sizes.width()
    }

    fn stack(&self) -> Stack<'_> {
        Stack { blocks: &self.network.blocks, weights: &self.weights.blocks }
    }
}

impl PriorMemory {
    /// Tokens to logits.
    pub fn forward(&mut self, cx: &PriorContext<'_>, pair: &Pair<'_>) {
        let (d, slots) = (cx.width(), cx.network.sizes.slots());
        let Self { stack, statistics, text, image, work, .. } = self;
        embed(cx, pair, stack.input());
        stack.forward(&cx.base, cx.stack(), slots, |index| &cx.groups[index], work);
        cx.base.norm(&cx.network.norm, &stack.x, statistics, &mut work.normal);
        let normal = all(&work.normal, d);
        let places = cx.network.sizes.text - 1;
        cx.base.forward(&cx.weights.text_logits, normal, places, false, text);
        // The last text slot predicts the first image token.
        let from = Rows { first: places * d, ..normal };
        cx.base.forward(&cx.weights.image_logits, from, slots - 1 - places, false, image);
    }

    /// Logits to the gradient of the weighted losses. Returns the sums of cross-entropies of text and image.
    pub fn compare(&mut self, cx: &PriorContext<'_>, pair: &Pair<'_>, weights: [f32; 2]) -> [f64; 2] {
        let sizes = &cx.network.sizes;
        // The sum of cross-entropies of some rows of logits.
        let sum =
            |kind: usize, logits: &mut [f32], columns, classes, target: &(dyn Fn(usize) -> _ + Sync)| {
                let rows = logits.len() / columns;
                let mut losses = vec![0.0; rows];
                let piece = cx.base.threads.piece(rows, 1);
                let length = logits.len();
                let tasks = logits.chunks_mut(piece * columns).zip(losses.chunks_mut(piece)).enumerate();
                cx.base.threads.each(tasks.collect(), EXP * length, |(index, (rows, losses))| {
                    let rows = rows.chunks_exact_mut(columns).zip(losses).enumerate();
                    for (place, (logits, loss)) in rows {
                        match target(index * piece + place) {
                            Some(target) => {
                                let weight = weights[kind];
                                *loss =
                                    cx.base.processor.run(CrossEntropy { logits, classes, target, weight });
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
        let Self { stack, statistics, text, image, work, matrix } = self;
        // The last LayerNorm's result once more.
        cx.base.norm(&cx.network.norm, &stack.x, statistics, &mut work.normal);
        let normal = all(&work.normal, d);
        let from = Rows { first: places * d, ..normal };
        let (text_layer, image_layer) = (&cx.weights.text_logits, &cx.weights.image_logits);
        cx.base.learn(&text_layer.linear, normal, text, gradients, matrix);
        cx.base.learn(&image_layer.linear, from, image, gradients, matrix);
        let d_normal = &mut work.d_normal;
        d_normal[(slots - 1) * d..].fill(0.0);
        cx.base.back(text_layer, all(text, text_layer.forward.columns()), places, d_normal);
        let rest = &mut d_normal[places * d..];
        cx.base.back(image_layer, all(image, image_layer.forward.columns()), slots - 1 - places, rest);
        work.dx.fill(0.0);
        cx.base.norm_gradient(&cx.network.norm, &stack.x, statistics, d_normal, &mut work.dx, gradients);
        stack.backward(&cx.base, cx.stack(), slots, |index| &cx.groups[index], work, gradients);
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
            for (x, value) in x.iter_mut().zip(&cx.base.parameters[table..][..d]) {
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
