//! Attention layer by layer: the tasks of heads and captions, which threads share.

use super::Sampler;
use super::attention::{Added, ImageAttention, Text, TextAttention};
use super::cache::{LayerCache, StoredView, StoredViewMut, text_panel, text_width};
use super::layers::{Engine, read_columns, write_columns};
use super::places::Places;
use crate::grid::{Buffer, zeros};
use crate::prior::network::PriorSizes;
use crate::prior::pattern::Pattern;
use crate::skinny::tiles;

impl Sampler {
    /// Queries (scaled), keys or values of one head, `[count, head]`, of the rows from `first` on: `part` is 0, 1 or 2.
    pub(super) fn head(
        &self,
        qkv: &[f32],
        rows: usize,
        (first, count): (usize, usize),
        part: usize,
        head: usize,
    ) -> Vec<f32> {
        let width = self.sizes.head;
        let mut values = vec![0.0; count * width];
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            read_columns(qkv, rows, first + row, part * self.sizes.width() + head * width, values);
        }
        if part == 0 {
            let scale = 1.0 / (width as f32).sqrt();
            values.iter_mut().for_each(|value| *value *= scale);
        }
        values
    }

    /// Attention of one new slot of every sample of every cache, in tiles.
    pub(super) fn attend(
        &self,
        engine: &Engine,
        qkv: &[f32],
        layers: Vec<(usize, &mut LayerCache)>,
        pattern: Pattern,
        places: &[Places],
    ) -> Buffer {
        struct Task<'a> {
            head: usize,
            /// The first row and their number.
            rows: (usize, usize),
            text: Text<'a>,
            kept: [StoredViewMut<'a>; 2],
            places: &'a Places,
            result: &'a mut [f32],
        }
        let sizes = &self.sizes;
        let (d, width) = (sizes.width(), sizes.head);
        let rows: usize = layers.iter().map(|(samples, _)| samples).sum();
        let mut results = zeros(rows * d);
        let mut rest = &mut results[..];
        let (mut tasks, mut first, mut work) = (Vec::new(), 0, 0);
        for ((samples, layer), places) in layers.into_iter().zip(places) {
            let texts =
                texts(sizes, layer.text_keys.heads(sizes.heads), layer.text_values.heads(sizes.heads));
            let keys = layer.keys.heads_mut(sizes.heads);
            let kept = keys.into_iter().zip(layer.values.heads_mut(sizes.heads));
            for ((head, text), (keys, values)) in texts.enumerate().zip(kept) {
                let (result, others) = rest.split_at_mut(samples * width);
                rest = others;
                let rows = (first, samples);
                tasks.push(Task { head, rows, text, kept: [keys, values], places, result });
            }
            first += samples;
            // Keys and values are read once for all samples.
            work += sizes.text * d * 2 * (samples + 3) / 4;
        }
        let kind = pattern as usize;
        engine.threads.each(tasks, work, |task| {
            let Task { head, rows: own, text, kept, places, result } = task;
            result.copy_from_slice(&self.head(qkv, rows, own, 0, head));
            let new = [1, 2].map(|part| self.head(qkv, rows, own, part, head));
            engine.processor.run(ImageAttention {
                head: width,
                text,
                added: Added {
                    queries: result,
                    new: new.each_ref().map(Vec::as_slice),
                    kept,
                    places: &places.kept[kind],
                    seen: &places.seen[kind],
                },
            });
        });
        let mut attended = zeros(tiles(rows, d));
        let (mut rest, mut first) = (&results[..], 0);
        for place in places {
            let samples = place.kept[kind].len();
            let (own, others) = rest.split_at(samples * d);
            for (head, values) in own.chunks_exact((samples * width).max(1)).enumerate() {
                for (row, values) in values.chunks_exact(width).enumerate() {
                    write_columns(&mut attended, rows, first + row, head * width, values);
                }
            }
            (rest, first) = (others, first + samples);
        }
        attended
    }

    /// Attention of all text slots and the first image slots of one stream, in tiles. The layer's cache holds them then.
    pub(super) fn attend_all(
        &self,
        engine: &Engine,
        qkv: &[f32],
        layer: &mut LayerCache,
        pattern: Pattern,
        places: &Places,
    ) -> Buffer {
        struct Task<'a> {
            head: usize,
            text: [StoredViewMut<'a>; 2],
            kept: [StoredViewMut<'a>; 2],
            result: &'a mut [f32],
        }
        let sizes = &self.sizes;
        let kind = pattern as usize;
        let (d, width, text_slots) = (sizes.width(), sizes.head, sizes.text);
        let panel = text_panel(sizes);
        let slots = text_slots + places.kept[kind].len();
        let mut results = zeros(slots * d);
        let text =
            layer.text_keys.heads_mut(sizes.heads).into_iter().zip(layer.text_values.heads_mut(sizes.heads));
        let kept = layer.keys.heads_mut(sizes.heads).into_iter().zip(layer.values.heads_mut(sizes.heads));
        let tasks = text.zip(kept).zip(results.chunks_exact_mut(slots * width)).enumerate();
        let tasks = tasks.map(|(head, ((text, kept), result))| Task {
            head,
            text: text.into(),
            kept: kept.into(),
            result,
        });
        engine.threads.each(tasks.collect(), slots * text_slots * d, |task| {
            let Task { head, text: [mut text_keys, mut text_values], kept, result } = task;
            let [queries, keys, values] = [0, 1, 2].map(|part| self.head(qkv, slots, (0, slots), part, head));
            let (own_keys, image_keys) = keys.split_at(text_slots * width);
            let (own_values, image_values) = values.split_at(text_slots * width);
            for (slot, key) in own_keys.chunks_exact(width).enumerate() {
                text_keys.write(slot / panel * panel * width + slot % panel, panel, key);
            }
            text_values.write(0, 1, own_values);
            let text = Text {
                keys: text_keys.view(),
                values: text_values.view(),
                slots: text_slots,
                width: text_width(sizes),
                panel,
            };
            result.copy_from_slice(&queries);
            let (own, image) = result.split_at_mut(text_slots * width);
            engine.processor.run(TextAttention { head: width, text, queries: own });
            engine.processor.run(ImageAttention {
                head: width,
                text,
                added: Added {
                    queries: image,
                    new: [image_keys, image_values],
                    kept,
                    places: &places.kept[kind],
                    seen: &places.seen[kind],
                },
            });
        });
        let mut attended = zeros(tiles(slots, d));
        for (head, values) in results.chunks_exact(slots * width).enumerate() {
            for (row, values) in values.chunks_exact(width).enumerate() {
                write_columns(&mut attended, slots, row, head * width, values);
            }
        }
        attended
    }
}

/// The caption's part of each head.
fn texts<'a>(
    sizes: &PriorSizes,
    keys: Vec<StoredView<'a>>,
    values: Vec<StoredView<'a>>,
) -> impl Iterator<Item = Text<'a>> {
    let (slots, width, panel) = (sizes.text, text_width(sizes), text_panel(sizes));
    keys.into_iter().zip(values).map(move |(keys, values)| Text { keys, values, slots, width, panel })
}
