//! The tower of images: patches, full attention, and the feature at the class token.

use super::network::{ClipNetwork, ClipSizes};
use super::tower::{Tower, TowerMemory};
use crate::grid::Buffer;
use crate::matrix::{Outer, Packed, Then};
use crate::transformer::attention::Group;
use crate::transformer::memory::{Allocate, StackWork};
use crate::transformer::pass::all;

/// What is kept of an image.
pub(super) struct ImageMemory {
    pub tower: TowerMemory,
    /// The pixels, from −1 to 1, patch by patch: `[patches, 3·patch²]`.
    patches: Buffer,
    /// The embedding before its LayerNorm, `[slots, width]`, and the rows' statistics.
    embedded: Buffer,
    statistics: Vec<[f32; 2]>,
}

impl ImageMemory {
    /// For images of a size, whose attention keeps `shares` values in each layer; `statistics` as in [`TowerMemory::new`].
    pub fn new(sizes: &ClipSizes, shares: usize, statistics: usize, buffer: Allocate<'_>) -> Self {
        let slots = sizes.image();
        Self {
            tower: TowerMemory::new(&sizes.image_tower, slots, shares, statistics, buffer),
            patches: buffer(sizes.grid().pow(2) * sizes.patch_values()),
            embedded: buffer(slots * sizes.image_tower.width),
            statistics: vec![[0.0; 2]; statistics],
        }
    }
}

/// Writes the pixels of an image, RGB8, patch by patch and in each channel by channel, from −1 to 1.
fn split(sizes: &ClipSizes, rgb: &[u8], patches: &mut [f32]) {
    let (side, patch, grid) = (sizes.side, sizes.patch, sizes.grid());
    for (index, values) in patches.chunks_exact_mut(sizes.patch_values()).enumerate() {
        let (top, left) = (index / grid * patch, index % grid * patch);
        for (i, value) in values.iter_mut().enumerate() {
            let (channel, y, x) = (i / (patch * patch), i / patch % patch, i % patch);
            let byte = rgb[3 * ((top + y) * side + left + x) + channel];
            *value = f32::from(byte) / 255.0 * 2.0 - 1.0;
        }
    }
}

/// The feature of an image, RGB8. `kernel` is the packed kernel of the patches.
pub(super) fn forward(
    network: &ClipNetwork,
    tower: Tower<'_>,
    (rgb, kernel): (&[u8], &Packed),
    groups: &[Group],
    (memory, work): (&mut ImageMemory, &mut StackWork),
    feature: &mut [f32],
) {
    let (sizes, d, cx) = (&network.sizes, tower.sizes.width, tower.context());
    let ImageMemory { tower: kept, patches, embedded, statistics } = memory;
    split(sizes, rgb, patches);
    let (class, rows) = embedded.split_at_mut(d);
    class.copy_from_slice(&tower.parameters[network.class..][..d]);
    cx.product(all(patches, sizes.patch_values()), sizes.image() - 1, kernel, Then::Set(&[]), rows);
    let positions = &tower.parameters[network.image_position..][..embedded.len()];
    for (x, position) in embedded.iter_mut().zip(positions) {
        *x += position;
    }
    cx.norm(&network.norm_before, embedded, statistics, kept.stack.input());
    tower.forward(kept, (sizes.image(), 0), groups, work, feature);
}

/// Adds the gradients of all parameters.
pub(super) fn backward(
    network: &ClipNetwork,
    tower: Tower<'_>,
    groups: &[Group],
    (memory, work): (&mut ImageMemory, &mut StackWork),
    d_feature: &[f32],
    gradients: &mut [f32],
) {
    let (sizes, d, cx) = (&network.sizes, tower.sizes.width, tower.context());
    let ImageMemory { tower: kept, patches, embedded, statistics } = memory;
    tower.backward(kept, (sizes.image(), 0), groups, work, d_feature, gradients);
    let (length, values) = (embedded.len(), sizes.patch_values());
    let (dy, dx) = (&work.dx[..length], &mut work.d_normal[..length]);
    dx.fill(0.0);
    cx.norm_gradient(&network.norm_before, embedded, statistics, dy, dx, gradients);
    for (gradient, dx) in gradients[network.image_position..].iter_mut().zip(&*dx) {
        *gradient += dx;
    }
    let (class, rows) = dx.split_at(d);
    for (gradient, dx) in gradients[network.class..].iter_mut().zip(class) {
        *gradient += dx;
    }
    let c = &mut gradients[network.patch..][..values * d];
    let count = sizes.image() - 1;
    cx.processor.run(Outer {
        a: all(patches, values),
        m: values,
        b: all(rows, d),
        n: d,
        rows: count,
        c,
        stride: d,
    });
}
