//! What the entries of the codebook look like: each is decoded among its likes, and the middle of that is its tile.
//!
//! A sheet is a grid with blocks of equal tokens, so that one decode shows several entries. A token in the middle of its block is
//! surrounded by itself.

use dalle_shared::{Geometry, ImageToken};

/// Side of a block, in tokens. The decoder looks further than to the neighbours, but those count most.
const BLOCK: usize = 4;
/// Side of a tile in pixels: the factor between tokens and pixels.
pub const TILE: usize = 8;

/// The tiles that are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codebook {
    /// RGB of each tile in raster order, entry by entry.
    rgb: Vec<u8>,
}

/// Blocks along a side of a sheet, and their side.
fn blocks(grid: usize) -> (usize, usize) {
    let side = BLOCK.min(grid);
    (grid / side.max(1), side)
}

/// Entries of a sheet.
pub fn per_sheet(grid: usize) -> usize {
    let (blocks, _) = blocks(grid);
    (blocks * blocks).max(1)
}

/// The tokens of the sheet whose first entry is `first`.
pub fn sheet(first: usize, geometry: &Geometry) -> Vec<ImageToken> {
    let Geometry { grid, image_vocab, .. } = *geometry;
    let (blocks, side) = blocks(grid);
    let last = image_vocab.saturating_sub(1);
    let token = |index: usize| {
        let block = |at: usize| (at / side).min(blocks - 1);
        let entry = first + block(index / grid) * blocks + block(index % grid);
        ImageToken(u16::try_from(entry.min(last)).unwrap_or(u16::MAX))
    };
    (0..grid * grid).map(token).collect()
}

impl Codebook {
    /// Number of tiles known: those of the first entries.
    pub fn len(&self) -> usize {
        self.rgb.len() / (TILE * TILE * 3)
    }

    /// Takes the pixels of the sheet that begins with the next entry. Returns the first entry of the sheet after it, if there is one.
    pub fn take(&mut self, rgba: &[u8], geometry: &Geometry) -> Option<usize> {
        let Geometry { grid, image_vocab, image_size, .. } = *geometry;
        let (blocks, side) = blocks(grid);
        if rgba.len() != image_size * image_size * 4 {
            return None;
        }
        for block in 0..per_sheet(grid).min(image_vocab - self.len()) {
            let corner = |at: usize| (at * side + side / 2) * TILE;
            let (top, left) = (corner(block / blocks), corner(block % blocks));
            for y in top..top + TILE {
                for x in left..left + TILE {
                    self.rgb.extend_from_slice(&rgba[(y * image_size + x) * 4..][..3]);
                }
            }
        }
        Some(self.len()).filter(|next| *next < image_vocab)
    }

    /// The pixels of an entry's tile, RGB; None before it is known.
    pub fn tile(&self, token: ImageToken) -> Option<&[u8]> {
        let size = TILE * TILE * 3;
        self.rgb.get(usize::from(token.0) * size..)?.get(..size)
    }

    /// The code whose tile differs most from that of `token`, by the sum of differences of all values.
    pub fn least_like(&self, token: ImageToken) -> Option<ImageToken> {
        let own = self.tile(token)?;
        let distance =
            |tile: &[u8]| tile.iter().zip(own).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        let tiles = self.rgb.chunks_exact(TILE * TILE * 3).map(distance).zip(0u16..);
        tiles.max_by_key(|(distance, _)| *distance).map(|(_, token)| ImageToken(token))
    }

    /// Average lightness of each tile, by which the codebook is sorted for display.
    pub fn by_lightness(&self) -> Vec<ImageToken> {
        let light = |tile: &[u8]| tile.iter().map(|value| u32::from(*value)).sum::<u32>();
        let mut order: Vec<(u32, u16)> =
            self.rgb.chunks_exact(TILE * TILE * 3).map(light).zip(0u16..).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, token)| ImageToken(token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_hold_every_entry_and_each_tile_is_cut_from_its_own_block() {
        for (grid, image_vocab) in [(16, 40), (4, 3), (1, 2), (6, 5)] {
            let geometry =
                Geometry { text_length: 4, text_vocab: 9, grid, image_vocab, image_size: grid * TILE };
            let mut codebook = Codebook::default();
            let mut next = Some(0);
            while let Some(first) = next {
                assert_eq!(first, codebook.len());
                let tokens = sheet(first, &geometry);
                assert_eq!(tokens.len(), grid * grid);
                // Each pixel is the number of its token.
                let side = grid * TILE;
                let rgba: Vec<u8> = (0..side * side)
                    .flat_map(|pixel| {
                        let (y, x) = (pixel / side / TILE, pixel % side / TILE);
                        let token = tokens[y * grid + x].0 as u8;
                        [token, token, token, 255]
                    })
                    .collect();
                next = codebook.take(&rgba, &geometry);
            }
            assert_eq!(codebook.len(), image_vocab);
            for entry in 0..image_vocab as u16 {
                let tile = codebook.tile(ImageToken(entry)).unwrap();
                assert!(tile.iter().all(|value| *value == entry as u8), "{grid}: {entry} {tile:?}");
            }
            assert_eq!(codebook.tile(ImageToken(image_vocab as u16)), None);
            let far = codebook.least_like(ImageToken(0)).unwrap();
            assert_eq!(usize::from(far.0), image_vocab - 1);
            assert_eq!(codebook.least_like(ImageToken(image_vocab as u16)), None);
            let order: Vec<u16> = codebook.by_lightness().into_iter().map(|token| token.0).collect();
            assert_eq!(order, (0..image_vocab as u16).collect::<Vec<_>>());
        }
    }
}
