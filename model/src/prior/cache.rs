//! Keys and values of what was already seen, so that a step never recomputes the prefix.
//!
//! A step reads what its layer's [`Pattern`] lets it see and nothing else, so that is all that is kept: along rows a ring of
//! `grid + 1` positions, for the convolution a ring as long as its reach, along columns every position, the grid transposed,
//! so that a column is one contiguous run. The caption's part is kept once for all samples of it.

use burn::tensor::{Int, Tensor, TensorData};

use super::block::{Qkv, softmax_f32};
use super::mask::{Layout, Pattern};

/// The prior's memory of one caption and its samples, all at the same raster position.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
    pub(super) samples: usize,
    /// Image positions held: the raster position of the next.
    pub(super) position: usize,
}

/// The prior's memory of one caption that is being continued, without an image.
#[derive(Clone, Debug, Default)]
pub struct TextCache {
    /// Of each layer `[1, H, slots, K]`; empty before the first slot.
    layers: Vec<Entries>,
}

/// Keys and values of some places.
#[derive(Clone, Debug)]
struct Entries {
    k: Tensor<4>,
    v: Tensor<4>,
}

/// One layer's part. H heads, K width of a head, S samples.
#[derive(Clone, Debug)]
pub(super) struct LayerCache {
    layout: Layout,
    pattern: Pattern,
    /// Of the caption, `[1, H, text, K]`.
    text: Entries,
    /// Of the image, `[S, H, places, K]`; see [`Pattern::places`].
    image: Entries,
}

impl Pattern {
    /// Image positions that a layer of this pattern keeps.
    pub fn places(self, layout: Layout) -> usize {
        let reach = match self {
            Self::Row => layout.grid,
            Self::Column => return layout.grid * layout.grid,
            Self::Conv => layout.kernel / 2 * (layout.grid + 1),
        };
        (reach + 1).min(layout.grid * layout.grid)
    }

    /// Where the image position `position` is kept.
    fn place(self, layout: Layout, position: usize) -> usize {
        match self {
            Self::Column => position % layout.grid * layout.grid + position / layout.grid,
            Self::Row | Self::Conv => position % self.places(layout),
        }
    }
}

impl TextCache {
    /// Slots held.
    pub fn slots(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.k.dims()[2])
    }

    /// Takes in further slots of layer `index`, `[1, H, n, K]`, and gives all keys and values it then holds.
    pub(super) fn extend(&mut self, index: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.layers.get(index) {
            Some(held) => Entries {
                k: Tensor::cat(vec![held.k.clone(), k], 2),
                v: Tensor::cat(vec![held.v.clone(), v], 2),
            },
            None => Entries { k, v },
        };
        match self.layers.get_mut(index) {
            Some(held) => *held = all.clone(),
            None => self.layers.push(all.clone()),
        }
        (all.k, all.v)
    }
}

impl Entries {
    fn map(self, f: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self { k: f(self.k), v: f(self.v) }
    }

    /// Overwrites the places from `place` on.
    fn write(&mut self, place: usize, new: Self) {
        let [samples, heads, places, width] = new.k.dims();
        let area = [0..samples, 0..heads, place..place + places, 0..width];
        self.k.inplace(|kept| kept.slice_assign(area.clone(), new.k));
        self.v.inplace(|kept| kept.slice_assign(area, new.v));
    }
}

impl LayerCache {
    /// The first slots of a stream, keys and values `[1, H, text + positions, K]`.
    pub fn new(layout: Layout, pattern: Pattern, k: Tensor<4>, v: Tensor<4>) -> Self {
        let [_, heads, slots, width] = k.dims();
        let all = Entries { k, v };
        let part = |start: usize, slots: usize| all.clone().map(|tensor| tensor.narrow(2, start, slots));
        let empty =
            Tensor::zeros([1, heads, pattern.places(layout), width], (&all.k.device(), all.k.dtype()));
        let mut image = Entries { k: empty.clone(), v: empty };
        let positions = slots - layout.text;
        let kept = pattern.places(layout).min(positions);
        for position in positions - kept..positions {
            image.write(pattern.place(layout, position), part(layout.text + position, 1));
        }
        Self { layout, pattern, text: part(0, layout.text), image }
    }

    /// Takes in one position of every sample, `[S, H, 1, K]`, and gives its attention to what it sees, `[S, H, 1, K]`.
    pub fn attend(&mut self, position: usize, Qkv { q, k, v }: Qkv) -> Tensor<4> {
        self.image.write(self.pattern.place(self.layout, position), Entries { k, v });
        let seen = self.seen(position);
        // The caption's keys are the same for all samples: one product of matrices for each head instead of one of vectors
        // for each head and sample.
        let text_q = q.clone().swap_dims(0, 2);
        let text_scores = text_q.matmul(self.text.k.clone().swap_dims(2, 3)).swap_dims(0, 2);
        let image_scores = q.matmul(seen.k.swap_dims(2, 3));
        let [_, _, _, image] = image_scores.dims();
        // One softmax over both (section 2.2).
        let weights = softmax_f32(Tensor::cat(vec![text_scores, image_scores], 3));
        let text_weights = weights.clone().narrow(3, 0, self.layout.text).swap_dims(0, 2);
        let text = text_weights.matmul(self.text.v.clone()).swap_dims(0, 2);
        text + weights.narrow(3, self.layout.text, image).matmul(seen.v)
    }

    /// What the image position `position` sees of the image: itself and, of earlier ones, what its pattern allows.
    fn seen(&self, position: usize) -> Entries {
        let Layout { grid, .. } = self.layout;
        let image = self.image.clone();
        match self.pattern {
            // A ring holds what is seen in any order: attention does not ask for one.
            Pattern::Row => {
                image.map(|tensor| tensor.narrow(2, 0, (position + 1).min(self.pattern.places(self.layout))))
            }
            Pattern::Column => {
                image.map(|tensor| tensor.narrow(2, position % grid * grid, position / grid + 1))
            }
            Pattern::Conv => {
                let query = self.layout.text + position;
                let earliest = position.saturating_sub(self.pattern.places(self.layout) - 1);
                let seen = (earliest..=position)
                    .filter(|key| self.layout.sees(self.pattern, query, self.layout.text + key));
                let places: Vec<i64> = seen.map(|key| self.pattern.place(self.layout, key) as i64).collect();
                let count = places.len();
                let places: Tensor<1, Int> =
                    Tensor::from_data(TensorData::new(places, [count]), &image.k.device());
                image.map(|tensor| tensor.select(2, places.clone()))
            }
        }
    }
}

impl Cache {
    /// For `samples` samples instead of one: all start from the one prefill of their caption.
    ///
    /// # Panics
    /// If it already holds more than one sample.
    #[must_use]
    pub fn repeat(mut self, samples: usize) -> Self {
        assert_eq!(self.samples, 1, "only a fresh cache is repeated");
        for layer in &mut self.layers {
            layer.image = layer.image.clone().map(|tensor| tensor.repeat_dim(0, samples));
        }
        self.samples = samples;
        self
    }

    /// Samples held.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = |entries: &Entries| 2 * entries.k.shape().num_elements() * entries.k.dtype().size();
        self.layers.iter().map(|layer| bytes(&layer.text) + bytes(&layer.image)).sum()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Keys that carry the number of their position, so that what is read can be told.
    fn numbered(positions: std::ops::Range<usize>, device: &Device) -> Tensor<4> {
        let values: Vec<f32> = positions.map(|position| position as f32).collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [1, 1, count, 1]), device)
    }

    #[test]
    fn a_step_reads_the_keys_that_its_pattern_sees_and_no_others() {
        let layout = Layout { text: 3, grid: 6, kernel: 3 };
        let device = Device::flex();
        for pattern in Pattern::ALL {
            for given in [0, 1, 9, 20] {
                let first = numbered(0..given, &device);
                let stream = Tensor::cat(vec![Tensor::zeros([1, 1, layout.text, 1], &device), first], 2);
                let mut layer = LayerCache::new(layout, pattern, stream.clone(), stream);
                for position in given..layout.grid * layout.grid {
                    let new = numbered(position..position + 1, &device);
                    layer.attend(position, Qkv { q: new.clone(), k: new.clone(), v: new });
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
