//! Attention masks: the three sparse patterns over the stream `[text | image]` (section 2.2, figure 11).
//!
//! A text slot attends to the text up to itself. An image slot attends to all of the text, and to those image slots up to itself
//! that its layer's pattern allows. All keys of a query share one softmax.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::config::ModelConfig;

/// The attention pattern of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The previous tokens in raster order, back to the one in the same column of the previous row.
    Row,
    /// The same column in earlier rows.
    Column,
    /// The rows above within half a kernel, and half a kernel to either side; wraps around in raster order.
    Conv,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Self; 3] = [Self::Row, Self::Column, Self::Conv];

    /// The pattern of layer `index` (from 0) of `layers`. The last layer is convolutional. Of the others, every fourth layer starting
    /// with the second has column attention, and the rest have row attention. With 64 layers: 47 row, 16 column, 1 convolutional.
    pub fn of_layer(index: usize, layers: usize) -> Self {
        if index + 1 == layers {
            Self::Conv
        } else if index % 4 == 1 {
            Self::Column
        } else {
            Self::Row
        }
    }
}

/// The sizes that the patterns depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLayout {
    /// Text slots, including the start token's.
    pub text: usize,
    /// Side of the grid of image slots.
    pub grid: usize,
    /// Side of the convolutional attention's kernel, odd.
    pub kernel: usize,
}

impl StreamLayout {
    /// The layout of the model's stream.
    pub fn new(config: &ModelConfig) -> Self {
        let geometry = config.geometry();
        Self { text: geometry.text_length, grid: geometry.grid, kernel: config.prior.conv_kernel }
    }

    /// Number of slots of the stream.
    pub fn slots(&self) -> usize {
        self.text + self.grid * self.grid
    }

    /// Whether the query at slot `query` attends to the key at slot `key` in a layer with this pattern.
    pub fn sees(&self, pattern: Pattern, query: usize, key: usize) -> bool {
        if key > query {
            return false;
        }
        if key < self.text {
            return true;
        }
        // Both are image slots; `back` is their distance in raster order.
        let back = query - key;
        match pattern {
            Pattern::Row => back <= self.grid,
            Pattern::Column => back.is_multiple_of(self.grid),
            Pattern::Conv => {
                let half = self.kernel / 2;
                (0..=half).any(|rows| (rows * self.grid).abs_diff(back) <= half)
            }
        }
    }

    /// The pattern as a mask, `[slots, slots]`: true where the query (row) must not attend to the key (column).
    pub fn mask(&self, pattern: Pattern, device: &Device) -> Tensor<2, Bool> {
        let slots = self.slots();
        let mask: Vec<bool> = (0..slots * slots).map(|i| !self.sees(pattern, i / slots, i % slots)).collect();
        Tensor::from_data(TensorData::new(mask, [slots, slots]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: StreamLayout = StreamLayout { text: 256, grid: 32, kernel: 11 };

    fn keys(pattern: Pattern, query: usize) -> Vec<usize> {
        (0..PAPER.slots()).filter(|&key| PAPER.sees(pattern, query, key)).collect()
    }

    #[test]
    fn sixty_four_layers_are_47_row_16_column_1_conv() {
        let count = |pattern| (0..64).filter(|&index| Pattern::of_layer(index, 64) == pattern).count();
        assert_eq!(Pattern::ALL.map(count), [47, 16, 1]);
        // Layer i, from 1, is column if (i − 2) mod 4 = 0.
        assert_eq!(Pattern::of_layer(1, 64), Pattern::Column);
        assert_eq!(Pattern::of_layer(61, 64), Pattern::Column);
        assert_eq!(Pattern::of_layer(63, 64), Pattern::Conv);
    }

    #[test]
    fn text_is_causal_and_never_sees_the_image() {
        for pattern in Pattern::ALL {
            assert_eq!(keys(pattern, 0), [0]);
            assert_eq!(keys(pattern, 255), (0..256).collect::<Vec<_>>());
        }
    }

    #[test]
    fn image_keys_are_the_papers() {
        let image = |row: usize, column: usize| 256 + 32 * row + column;
        let text: Vec<usize> = (0..256).collect();
        let with_text = |keys: &mut dyn Iterator<Item = usize>| [text.clone(), keys.collect()].concat();
        // Row: 33 keys including its own, back to the same column of the previous row.
        assert_eq!(keys(Pattern::Row, image(2, 5)), with_text(&mut (image(1, 5)..=image(2, 5))));
        assert_eq!(keys(Pattern::Row, image(0, 3)), with_text(&mut (image(0, 0)..=image(0, 3))));
        // Column: the same column only.
        assert_eq!(keys(Pattern::Column, image(3, 7)), with_text(&mut (0..=3).map(|row| image(row, 7))));
        // Convolution: five rows of eleven and six of its own row, 61 in total …
        let expected = (10..15)
            .flat_map(|row| (15..=25).map(move |column| image(row, column)))
            .chain((15..=20).map(|column| image(15, column)));
        assert_eq!(keys(Pattern::Conv, image(15, 20)), with_text(&mut expected.into_iter()));
        assert_eq!(keys(Pattern::Conv, image(15, 20)).len() - 256, 61);
        // … and at the left edge it wraps around to the end of the previous row.
        assert!(PAPER.sees(Pattern::Conv, image(4, 0), image(3, 31)));
        assert!(PAPER.sees(Pattern::Conv, image(4, 0), image(2, 27)));
        assert!(!PAPER.sees(Pattern::Conv, image(4, 0), image(2, 26)));
    }
}
