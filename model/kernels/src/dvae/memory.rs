//! The working memory of a pass over a few images, allocated once.

use std::cell::Cell;

use super::network::{DvaeBlock, DvaeNetwork};
use crate::grid::{Buffer, Grid, zeros};
use crate::{codes, outer};

/// What a block keeps for its gradient: hidden maps after their ReLU, and its output.
pub(super) struct DvaeBlockMemory {
    pub hidden: [Buffer; 3],
    pub output: Buffer,
}

pub(super) struct DvaeMemory {
    /// Layouts of the four resolutions, the greatest first.
    pub grids: [Grid; 4],
    pub image: Buffer,
    pub stem: Buffer,
    pub encoder: [Vec<DvaeBlockMemory>; 4],
    /// Inputs of the encoder's groups but the first.
    pub pooled: [Buffer; 3],
    pub logits: Buffer,
    pub statistics: Buffer,
    pub best: Buffer,
    pub z: Buffer,
    pub dz: Buffer,
    pub codes: Buffer,
    pub decoder: [Vec<DvaeBlockMemory>; 4],
    pub maps: Buffer,
    pub work: DvaeWork,
    pub scratch: DvaeScratch,
}

impl DvaeMemory {
    /// The most likely code at each place of the image.
    pub fn codes(&self, codes: &mut [u32]) {
        let grid = &self.grids[3];
        for (i, code) in codes.iter_mut().enumerate() {
            let (phase, tile) = grid.place(0, i / grid.width, i % grid.width);
            *code = self.best[phase * grid.tiles + tile] as u32;
        }
    }
}

/// Working memory of the kernels.
pub(super) struct DvaeScratch {
    pub kernels: Buffer,
    pub outer: outer::OuterMemory,
}

/// What is not kept: gradients of maps, and maps between resolutions.
pub(super) struct DvaeWork {
    /// The gradient of a block's output and of its input, of each resolution.
    pub output: [Buffer; 4],
    pub input: [Buffer; 4],
    /// Gradients of hidden maps, of each resolution.
    pub hidden: [[Buffer; 2]; 4],
    /// Maps of tiles of an upsampled identity path, of the three greater resolutions.
    pub tiles: [Buffer; 3],
    /// A hidden map and its gradient at the resolution before an upsampling, and an identity path's map.
    pub before: [[Buffer; 2]; 3],
    pub before_id: [Buffer; 3],
}

impl DvaeMemory {
    /// For an image of a size.
    pub fn new(network: &DvaeNetwork, height: usize, width: usize) -> Self {
        Self::in_buffers(network, grids(height, width, Grid::new), &zeros)
    }

    /// Values of the maps of an image, without allocating them.
    pub fn values(network: &DvaeNetwork, height: usize, width: usize) -> usize {
        let grids = grids(height, width, Grid::without_mask);
        let values = Cell::new(grids.iter().map(Grid::mask_values).sum());
        Self::in_buffers(network, grids, &|length| {
            values.set(values.get() + length);
            zeros(0)
        });
        values.get()
    }

    fn in_buffers(network: &DvaeNetwork, grids: [Grid; 4], buffer: &dyn Fn(usize) -> Buffer) -> Self {
        let map = |grid: &Grid, channels: usize| buffer(channels * grid.channel());
        let tile_map = |grid: &Grid, channels: usize| buffer(channels * grid.plane);
        let n_hid = network.sizes.n_hid;
        let hidden = |factor: usize| factor * n_hid / 4;
        let kept = |blocks: &[DvaeBlock], grid: &Grid, upsampled: bool| -> Vec<DvaeBlockMemory> {
            let keep = |(place, block): (usize, &DvaeBlock)| {
                let [first, second, third, last] = &block.res;
                // After an upsampling the first hidden map has one value per tile.
                let tiles = upsampled && place == 0;
                let first = if tiles { tile_map(grid, first.n_out) } else { map(grid, first.n_out) };
                DvaeBlockMemory {
                    hidden: [first, map(grid, second.n_out), map(grid, third.n_out)],
                    output: map(grid, last.n_out),
                }
            };
            blocks.iter().enumerate().map(keep).collect()
        };
        let small = &grids[3];
        let vocab = network.sizes.vocab;
        let width_of = |level: usize| n_hid << level;
        // Inputs are at most as wide as the first layer of the decoder or as the next lower resolution.
        let widest_input = |level: usize| {
            if level == 3 { network.sizes.n_init.max(width_of(3)) } else { width_of(level + 1) }
        };
        Self {
            image: map(&grids[0], 3),
            stem: map(&grids[0], n_hid),
            encoder: std::array::from_fn(|group| kept(&network.encoder[group], &grids[group], false)),
            pooled: std::array::from_fn(|i| map(&grids[i + 1], width_of(i))),
            logits: map(small, vocab),
            statistics: buffer(codes::statistics(small)),
            best: buffer(4 * small.tiles),
            z: map(small, vocab),
            dz: map(small, vocab),
            codes: map(small, network.sizes.n_init),
            decoder: std::array::from_fn(|group| kept(&network.decoder[group], &grids[3 - group], group > 0)),
            maps: map(&grids[0], 6),
            work: DvaeWork {
                output: std::array::from_fn(|i| map(&grids[i], width_of(i))),
                input: std::array::from_fn(|i| map(&grids[i], widest_input(i))),
                hidden: std::array::from_fn(|i| [0, 1].map(|_| map(&grids[i], hidden(1 << i)))),
                tiles: std::array::from_fn(|i| tile_map(&grids[i], width_of(i))),
                before: std::array::from_fn(|i| [0, 1].map(|_| map(&grids[i + 1], hidden(1 << i)))),
                before_id: std::array::from_fn(|i| map(&grids[i + 1], width_of(i))),
            },
            scratch: DvaeScratch { kernels: zeros(0), outer: outer::OuterMemory::default() },
            grids,
        }
    }
}

/// Layouts of an image's maps at the four resolutions.
fn grids(height: usize, width: usize, grid: fn(usize, usize, usize, usize) -> Grid) -> [Grid; 4] {
    std::array::from_fn(|i| grid(1, height >> i, width >> i, if i == 0 { 2 } else { 1 }))
}
