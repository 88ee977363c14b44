//! Keys and values of the slots already seen, so that a step never recomputes the prefix.

use std::ops::Range;

use burn::tensor::{Int, Tensor};

/// The prior's memory of a batch of streams: per layer, keys and values `[B, H, slots, K]`.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) layers: Vec<LayerCache>,
}

/// One layer's part.
#[derive(Clone, Debug)]
pub(super) struct LayerCache {
    pub k: Tensor<4>,
    pub v: Tensor<4>,
}

impl LayerCache {
    /// Writes keys and values `[rows, H, T, K]` of consecutive slots from `slot` on into some rows.
    pub fn write(&mut self, rows: Range<usize>, slot: usize, k: Tensor<4>, v: Tensor<4>) {
        let [_, heads, t, width] = k.dims();
        let place = [rows, 0..heads, slot..slot + t, 0..width];
        self.k.inplace(|cached| cached.slice_assign(place.clone(), k));
        self.v.inplace(|cached| cached.slice_assign(place, v));
    }
}

impl Cache {
    /// Each row `times` times over (all samples of a caption start from its one prefill).
    #[must_use]
    pub fn repeat(self, times: usize) -> Self {
        self.map(|tensor| tensor.repeat_dim(0, times))
    }

    /// The rows of `self`, then those of `other`.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let layers = self.layers.into_iter().zip(other.layers);
        Self {
            layers: layers
                .map(|(a, b)| LayerCache {
                    k: Tensor::cat(vec![a.k, b.k], 0),
                    v: Tensor::cat(vec![a.v, b.v], 0),
                })
                .collect(),
        }
    }

    /// Only the rows named, in that order.
    #[must_use]
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        self.map(|tensor| tensor.select(0, rows.clone()))
    }

    fn map(self, f: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self {
            layers: self
                .layers
                .into_iter()
                .map(|layer| LayerCache { k: f(layer.k), v: f(layer.v) })
                .collect(),
        }
    }
}
