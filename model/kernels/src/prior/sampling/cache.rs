//! Keys and values of earlier slots, so that a step does not compute them again.
//!
//! What a layer's pattern cannot see any more is overwritten. The caption's part is kept once for all of its samples. Each head's
//! part is in one piece.

use std::borrow::Cow;

use crate::grid::{Buffer, UNIT, zeros};
use crate::prior::network::PriorSizes;
use crate::prior::pattern::Pattern;
use crate::storage::{Storage, widen_bf16, widen_f16};

/// Keys and values of one caption and its samples, which are all at the same raster position.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
    pub(super) samples: usize,
    /// Raster position of the next image token: as many are held.
    pub(super) position: usize,
}

#[derive(Clone, Debug)]
pub(super) struct LayerCache {
    /// The caption's keys, transposed in panels, `[heads, panels, head, panel]`: a vector holds one component of several keys.
    pub text_keys: Stored,
    /// The caption's values, `[heads, text, head]`.
    pub text_values: Stored,
    /// The image's keys, `[heads, samples, capacity, head]`.
    pub keys: Stored,
    /// The image's values, as its keys.
    pub values: Stored,
}

impl Cache {
    /// A cache of one sample that holds nothing yet.
    pub(super) fn new(sizes: &PriorSizes, storage: Storage) -> Self {
        let layer = |index| {
            let capacity = Pattern::of_layer(index, sizes.layers).capacity(sizes);
            let slots = |count: usize| Stored::zeros(count * sizes.width(), storage);
            LayerCache {
                text_keys: slots(text_width(sizes)),
                text_values: slots(sizes.text),
                keys: slots(capacity),
                values: slots(capacity),
            }
        };
        Self { layers: (0..sizes.layers).map(layer).collect(), samples: 1, position: 0 }
    }

    /// Values of the caches of `captions` captions with `samples` samples in all.
    pub(super) fn values(sizes: &PriorSizes, captions: usize, samples: usize) -> usize {
        let slots = (0..sizes.layers).map(|index| {
            let capacity = Pattern::of_layer(index, sizes.layers).capacity(sizes);
            captions * (text_width(sizes) + sizes.text) + 2 * samples * capacity
        });
        slots.sum::<usize>() * sizes.width()
    }

    /// A cache for `samples` samples that all begin as the one that this cache holds.
    ///
    /// # Panics
    /// If it holds more than one.
    #[must_use]
    pub fn repeat(mut self, samples: usize, sizes: &PriorSizes) -> Self {
        assert_eq!(self.samples, 1, "only a cache of one sample is repeated");
        for layer in &mut self.layers {
            layer.keys.repeat(sizes.heads, samples);
            layer.values.repeat(sizes.heads, samples);
        }
        self.samples = samples;
        self
    }

    /// Samples held.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of the keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = |layer: &LayerCache| {
            layer.text_keys.bytes() + layer.text_values.bytes() + layer.keys.bytes() + layer.values.bytes()
        };
        self.layers.iter().map(bytes).sum()
    }
}

/// Text slots, padded to whole units.
pub(super) fn text_width(sizes: &PriorSizes) -> usize {
    sizes.text.next_multiple_of(UNIT)
}

/// Text slots of a panel: as many as are computed at once, so that keys are read in order.
pub(super) fn text_panel(sizes: &PriorSizes) -> usize {
    let width = text_width(sizes);
    [4 * UNIT, 2 * UNIT].into_iter().find(|panel| width.is_multiple_of(*panel)).unwrap_or(UNIT)
}

/// Numbers as they are kept.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    F32(Buffer),
    Bf16(Vec<u16>),
    F16(Vec<u16>),
}

impl Stored {
    fn zeros(count: usize, storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32(zeros(count)),
            Storage::Bf16 => Self::Bf16(vec![0; count]),
            Storage::F16 => Self::F16(vec![0; count]),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::Bf16(values) | Self::F16(values) => size_of_val(values.as_slice()),
        }
    }

    /// Repeats each of `parts` equal parts.
    fn repeat(&mut self, parts: usize, times: usize) {
        match self {
            Self::F32(values) => {
                let part = values.len() / parts;
                let mut all = zeros(values.len() * times);
                for (to, from) in all.chunks_exact_mut(part * times).zip(values.chunks_exact(part)) {
                    to.chunks_exact_mut(part).for_each(|to| to.copy_from_slice(from));
                }
                *values = all;
            }
            Self::Bf16(values) | Self::F16(values) => {
                let part = values.len() / parts;
                *values = values.chunks_exact(part).flat_map(|part| part.repeat(times)).collect();
            }
        }
    }

    /// Equal parts, one for each head.
    pub fn heads(&self, heads: usize) -> Vec<StoredView<'_>> {
        match self {
            Self::F32(values) => values.chunks_exact(values.len() / heads).map(StoredView::F32).collect(),
            Self::Bf16(values) => values.chunks_exact(values.len() / heads).map(StoredView::Bf16).collect(),
            Self::F16(values) => values.chunks_exact(values.len() / heads).map(StoredView::F16).collect(),
        }
    }

    /// The same, to be written.
    pub fn heads_mut(&mut self, heads: usize) -> Vec<StoredViewMut<'_>> {
        match self {
            Self::F32(values) => {
                let part = values.len() / heads;
                values.chunks_exact_mut(part).map(StoredViewMut::F32).collect()
            }
            Self::Bf16(values) => {
                let part = values.len() / heads;
                values.chunks_exact_mut(part).map(StoredViewMut::Bf16).collect()
            }
            Self::F16(values) => {
                let part = values.len() / heads;
                values.chunks_exact_mut(part).map(StoredViewMut::F16).collect()
            }
        }
    }
}

/// Some of the numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoredView<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    F16(&'a [u16]),
}

impl<'a> StoredView<'a> {
    /// `count` of them from `at` on.
    #[inline(always)]
    pub fn part(self, at: usize, count: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[at..at + count]),
            Self::Bf16(values) => Self::Bf16(&values[at..at + count]),
            Self::F16(values) => Self::F16(&values[at..at + count]),
        }
    }

    /// How many.
    #[inline(always)]
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) | Self::F16(values) => values.len(),
        }
    }

    /// All of them in f32.
    #[inline(always)]
    pub fn widened(self) -> Cow<'a, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::Bf16(values) | Self::F16(values) => {
                let mut wide = vec![0.0; values.len()];
                self.read(&mut wide);
                Cow::Owned(wide)
            }
        }
    }

    /// Copies them to `wide`.
    #[inline(always)]
    pub fn read(self, wide: &mut [f32]) {
        match self {
            Self::F32(values) => wide.copy_from_slice(values),
            // Loops without closures, which are compiled for the vectors of the caller.
            Self::Bf16(values) => {
                for (wide, bits) in wide.iter_mut().zip(values) {
                    *wide = widen_bf16(*bits);
                }
            }
            Self::F16(values) => {
                for (wide, bits) in wide.iter_mut().zip(values) {
                    *wide = widen_f16(*bits);
                }
            }
        }
    }
}

/// Some of the numbers, to be written.
#[derive(Debug)]
pub(super) enum StoredViewMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u16]),
    F16(&'a mut [u16]),
}

impl StoredViewMut<'_> {
    /// Writes values from `at` on, `stride` apart.
    pub fn write(&mut self, at: usize, stride: usize, new: &[f32]) {
        match self {
            Self::F32(values) if stride == 1 => values[at..at + new.len()].copy_from_slice(new),
            Self::F32(values) => {
                values[at..].iter_mut().step_by(stride).zip(new).for_each(|(value, new)| *value = *new);
            }
            Self::Bf16(values) => narrow(values, at, stride, new, Storage::Bf16),
            Self::F16(values) => narrow(values, at, stride, new, Storage::F16),
        }
    }

    /// What is there.
    pub fn view(&self) -> StoredView<'_> {
        match self {
            Self::F32(values) => StoredView::F32(values),
            Self::Bf16(values) => StoredView::Bf16(values),
            Self::F16(values) => StoredView::F16(values),
        }
    }
}

fn narrow(values: &mut [u16], at: usize, stride: usize, new: &[f32], storage: Storage) {
    for (value, new) in values[at..].iter_mut().step_by(stride).zip(new) {
        *value = storage.narrow(*new);
    }
}
