//! The key/value cache of sampling.
//!
//! A layer keeps only what its [`Pattern`] can still attend to: for row attention a ring of `grid + 1` positions, for convolutional
//! attention a ring as long as its reach, for column attention every position, with the grid transposed so that a column is
//! contiguous. The caption's part is stored once and shared by its samples.

use burn::tensor::{Int, Tensor, TensorData};

use super::mask::{Pattern, StreamLayout};
use crate::transformer::{KeyValue, Qkv, softmax_f32};

/// Keys and values of one caption and its samples, which are all at the same raster position.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
    pub(super) samples: usize,
    /// Raster position of the next image token, and number of image tokens processed.
    pub(super) position: usize,
}

/// Keys and values of the first slots of a caption, without an image. Used for sampling captions.
#[derive(Clone, Debug, Default)]
pub struct TextCache {
    /// Per layer, `[1, H, slots, K]`; empty before the first slot.
    layers: Vec<KeyValue>,
}

/// The cache of one layer. S is the number of samples.
#[derive(Clone, Debug)]
pub(super) struct LayerCache {
    layout: StreamLayout,
    pattern: Pattern,
    /// The caption's keys and values, `[1, H, text, K]`.
    text: KeyValue,
    /// The images' keys and values, `[S, H, capacity, K]`; see [`Pattern::capacity`].
    image: KeyValue,
}

impl Pattern {
    /// Image positions that a layer of this pattern keeps.
    pub fn capacity(self, layout: StreamLayout) -> usize {
        let reach = match self {
            Self::Row => layout.grid,
            Self::Column => return layout.grid * layout.grid,
            Self::Conv => layout.kernel / 2 * (layout.grid + 1),
        };
        (reach + 1).min(layout.grid * layout.grid)
    }

    /// The slot of image position `position`, below [`capacity`](Self::capacity).
    fn index(self, layout: StreamLayout, position: usize) -> usize {
        match self {
            Self::Column => position % layout.grid * layout.grid + position / layout.grid,
            Self::Row | Self::Conv => position % self.capacity(layout),
        }
    }
}

impl TextCache {
    /// Number of slots in the cache.
    pub fn slots(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.k.dims()[2])
    }

    /// Appends slots to layer `index`, `[1, H, n, K]`, and returns all of the layer's slots.
    pub(super) fn extend(&mut self, index: usize, new: KeyValue) -> KeyValue {
        let all = match self.layers.get(index) {
            Some(held) => KeyValue {
                k: Tensor::cat(vec![held.k.clone(), new.k], 2),
                v: Tensor::cat(vec![held.v.clone(), new.v], 2),
            },
            None => new,
        };
        match self.layers.get_mut(index) {
            Some(held) => *held = all.clone(),
            None => self.layers.push(all.clone()),
        }
        all
    }
}

impl KeyValue {
    fn map(self, f: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self { k: f(self.k), v: f(self.v) }
    }

    /// Overwrites slots, starting at `index`.
    fn write(&mut self, index: usize, new: Self) {
        let [samples, heads, slots, width] = new.k.dims();
        let area = [0..samples, 0..heads, index..index + slots, 0..width];
        self.k.inplace(|kept| kept.slice_assign(area.clone(), new.k));
        self.v.inplace(|kept| kept.slice_assign(area, new.v));
    }
}

impl LayerCache {
    /// Creates the cache from the first slots of a stream, `[1, H, text + positions, K]`.
    pub fn new(layout: StreamLayout, pattern: Pattern, stream: &KeyValue) -> Self {
        let [_, heads, slots, width] = stream.k.dims();
        let part = |start: usize, slots: usize| stream.clone().map(|tensor| tensor.narrow(2, start, slots));
        let shape = [1, heads, pattern.capacity(layout), width];
        let empty = Tensor::zeros(shape, (&stream.k.device(), stream.k.dtype()));
        let mut image = KeyValue { k: empty.clone(), v: empty };
        let positions = slots - layout.text;
        let kept = pattern.capacity(layout).min(positions);
        for position in positions - kept..positions {
            image.write(pattern.index(layout, position), part(layout.text + position, 1));
        }
        Self { layout, pattern, text: part(0, layout.text), image }
    }

    /// Adds one position of every sample, `[S, H, 1, K]`, and returns the output of its attention, `[S, H, 1, K]`.
    pub fn attend(&mut self, position: usize, Qkv { q, kv }: Qkv) -> Tensor<4> {
        self.image.write(self.pattern.index(self.layout, position), kv);
        let seen = self.seen(position);
        // All samples share the caption's keys, so one matrix product per head replaces a vector product per head and sample.
        let text_q = q.clone().swap_dims(0, 2);
        let text_scores = text_q.matmul(self.text.k.clone().swap_dims(2, 3)).swap_dims(0, 2);
        let image_scores = q.matmul(seen.k.swap_dims(2, 3));
        let [_, _, _, image] = image_scores.dims();
        // One softmax over caption and image (section 2.2).
        let weights = softmax_f32(Tensor::cat(vec![text_scores, image_scores], 3));
        let text_weights = weights.clone().narrow(3, 0, self.layout.text).swap_dims(0, 2);
        let text = text_weights.matmul(self.text.v.clone()).swap_dims(0, 2);
        text + weights.narrow(3, self.layout.text, image).matmul(seen.v)
    }

    /// The keys and values that image position `position` attends to: its own and those of earlier positions that the pattern
    /// allows, in any order.
    fn seen(&self, position: usize) -> KeyValue {
        let StreamLayout { grid, .. } = self.layout;
        let image = self.image.clone();
        match self.pattern {
            Pattern::Row => {
                let held = (position + 1).min(self.pattern.capacity(self.layout));
                image.map(|tensor| tensor.narrow(2, 0, held))
            }
            Pattern::Column => {
                image.map(|tensor| tensor.narrow(2, position % grid * grid, position / grid + 1))
            }
            Pattern::Conv => {
                let query = self.layout.text + position;
                let earliest = position.saturating_sub(self.pattern.capacity(self.layout) - 1);
                let seen = (earliest..=position)
                    .filter(|key| self.layout.sees(self.pattern, query, self.layout.text + key));
                let indices: Vec<i64> = seen.map(|key| self.pattern.index(self.layout, key) as i64).collect();
                let count = indices.len();
                let indices: Tensor<1, Int> =
                    Tensor::from_data(TensorData::new(indices, [count]), &image.k.device());
                image.map(|tensor| tensor.select(2, indices.clone()))
            }
        }
    }
}

impl Cache {
    /// The cache repeated for `samples` samples, which all start from the same prefill.
    ///
    /// # Panics
    /// If it already holds more than one sample.
    #[must_use]
    pub fn repeat(mut self, samples: usize) -> Self {
        assert_eq!(self.samples, 1, "only the cache of a single sample can be repeated");
        for layer in &mut self.layers {
            layer.image = layer.image.clone().map(|tensor| tensor.repeat_dim(0, samples));
        }
        self.samples = samples;
        self
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of the keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = |kv: &KeyValue| 2 * kv.k.shape().num_elements() * kv.k.dtype().size();
        self.layers.iter().map(|layer| bytes(&layer.text) + bytes(&layer.image)).sum()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Keys whose values are their position, so that a test can tell which ones were read.
    fn numbered(positions: std::ops::Range<usize>, device: &Device) -> Tensor<4> {
        let values: Vec<f32> = positions.map(|position| position as f32).collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [1, 1, count, 1]), device)
    }

    #[test]
    fn a_step_reads_the_keys_that_its_pattern_sees_and_no_others() {
        let layout = StreamLayout { text: 3, grid: 6, kernel: 3 };
        let device = Device::flex();
        for pattern in Pattern::ALL {
            for given in [0, 1, 9, 20] {
                let first = numbered(0..given, &device);
                let stream = Tensor::cat(vec![Tensor::zeros([1, 1, layout.text, 1], &device), first], 2);
                let stream = KeyValue { k: stream.clone(), v: stream };
                let mut layer = LayerCache::new(layout, pattern, &stream);
                for position in given..layout.grid * layout.grid {
                    let new = numbered(position..position + 1, &device);
                    let kv = KeyValue { k: new.clone(), v: new.clone() };
                    layer.attend(position, Qkv { q: new, kv });
                    let read = layer.seen(position).k.into_data();
                    let mut read: Vec<usize> = read.iter::<f32>().map(|key| key as usize).collect();
                    read.sort_unstable();
                    let sees = |key: &usize| layout.sees(pattern, layout.text + position, layout.text + key);
                    let expected: Vec<usize> = (0..=position).filter(sees).collect();
                    assert_eq!(read, expected, "{pattern:?}, position {position}, {given} given");
                }
            }
        }
    }
}
