//! Which image slots an image slot attends to (section 2.2, figure 11).

use super::network::PriorSizes;

/// The pattern of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The previous tokens in raster order, back to the one in the same column of the previous row.
    Row,
    /// The same column in earlier rows.
    Column,
    /// The rows above within half a kernel, and half a kernel to either side, wrapping round in raster order.
    Conv,
}

impl Pattern {
    /// All patterns, in the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Row, Self::Column, Self::Conv];

    /// The pattern of layer `index` (from 0) of `layers`.
    pub fn of_layer(index: usize, layers: usize) -> Self {
        if index + 1 == layers {
            Self::Conv
        } else if index % 4 == 1 {
            Self::Column
        } else {
            Self::Row
        }
    }

    /// Whether an image query sees an image key `back` slots before it.
    pub(super) fn sees(self, sizes: &PriorSizes, back: usize) -> bool {
        match self {
            Self::Row => back <= sizes.grid,
            Self::Column => back.is_multiple_of(sizes.grid),
            Self::Conv => {
                let half = sizes.conv_kernel / 2;
                (0..=half).any(|rows| (rows * sizes.grid).abs_diff(back) <= half)
            }
        }
    }

    /// Image slots of which keys and values are kept while an image is sampled.
    pub(super) fn capacity(self, sizes: &PriorSizes) -> usize {
        let image = sizes.grid * sizes.grid;
        match self {
            Self::Row => (sizes.grid + 1).min(image),
            Self::Column => image,
            Self::Conv => (sizes.conv_kernel / 2 * (sizes.grid + 1) + 1).min(image),
        }
    }

    /// Where the keys and values of the image slot `position` are kept, below [`capacity`](Self::capacity).
    pub(super) fn index(self, sizes: &PriorSizes, position: usize) -> usize {
        match self {
            // A column in one piece.
            Self::Column => position % sizes.grid * sizes.grid + position / sizes.grid,
            Self::Row | Self::Conv => position % self.capacity(sizes),
        }
    }

    /// Where the keys are kept that the image slot `position` sees, itself included.
    pub(super) fn seen(self, sizes: &PriorSizes, position: usize) -> Vec<usize> {
        let earliest = match self {
            Self::Column => 0,
            Self::Row | Self::Conv => (position + 1).saturating_sub(self.capacity(sizes)),
        };
        let seen = (earliest..=position).filter(|key| self.sees(sizes, position - key));
        seen.map(|key| self.index(sizes, key)).collect()
    }
}
