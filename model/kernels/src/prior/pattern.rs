//! Which image slots an image slot attends to (section 2.2, figure 11).

use super::network::Sizes;

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
    pub(super) fn sees(self, sizes: &Sizes, back: usize) -> bool {
        match self {
            Self::Row => back <= sizes.grid,
            Self::Column => back.is_multiple_of(sizes.grid),
            Self::Conv => {
                let half = sizes.conv_kernel / 2;
                (0..=half).any(|rows| (rows * sizes.grid).abs_diff(back) <= half)
            }
        }
    }
}
