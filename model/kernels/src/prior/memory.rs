//! The working memory of a pass over one pair of caption and image, allocated once.

use std::cell::Cell;

use super::groups::group_sizes;
use super::network::PriorSizes;
use super::pattern::Pattern;
use crate::grid::{Buffer, UNIT, zeros};
use crate::transformer::attention::{AttentionScratch, GroupSize, shares};
use crate::transformer::memory::{Allocate, StackMemory, StackWork};

pub(super) struct PriorMemory {
    pub stack: StackMemory,
    /// Of the residual stream after the last block.
    pub statistics: Vec<[f32; 2]>,
    /// Logits of the slots that predict text, and of those that predict the image; then their gradients.
    pub text: Buffer,
    pub image: Buffer,
    pub work: StackWork,
    /// The gradient of a matrix whose rows are not whole units.
    pub matrix: Buffer,
}

impl PriorMemory {
    pub fn new(sizes: &PriorSizes) -> Self {
        Self::in_buffers(sizes, sizes.slots(), &zeros)
    }

    /// Values of a memory, without allocating it.
    pub fn values(sizes: &PriorSizes) -> usize {
        let statistics = 2 * (2 * sizes.layers + 1) * sizes.slots();
        let values = Cell::new(statistics + AttentionScratch::values(sizes.head, largest(sizes)));
        Self::in_buffers(sizes, 0, &|length| {
            values.set(values.get() + length);
            zeros(0)
        });
        values.get()
    }

    /// With statistics of `kept` slots.
    fn in_buffers(sizes: &PriorSizes, kept: usize, buffer: Allocate<'_>) -> Self {
        let (heads, slots) = (sizes.all_heads(), sizes.slots());
        let shares =
            (0..sizes.layers).map(|index| layer_shares(sizes, Pattern::of_layer(index, sizes.layers)));
        let columns = |classes: usize| classes.next_multiple_of(UNIT);
        let (text, image) = (columns(sizes.text_vocab + 1), columns(sizes.image_vocab));
        Self {
            stack: StackMemory::new(heads, slots, shares, kept, buffer),
            statistics: vec![[0.0; 2]; kept],
            text: buffer((sizes.text - 1) * text),
            image: buffer(sizes.grid * sizes.grid * image),
            work: StackWork::new(heads, slots, largest(sizes), buffer),
            matrix: buffer(heads.width() * text.max(image)),
        }
    }
}

/// Values of attention that a layer keeps.
pub(super) fn layer_shares(sizes: &PriorSizes, pattern: Pattern) -> usize {
    shares(sizes.heads, group_sizes(sizes, pattern).into_iter())
}

/// Most queries, and most keys, of a group.
fn largest(sizes: &PriorSizes) -> GroupSize {
    GroupSize::largest(Pattern::ALL.into_iter().flat_map(|pattern| group_sizes(sizes, pattern)))
}
