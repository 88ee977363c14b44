//! How feature maps lie in memory.
//!
//! Winograd's convolution computes 2×2 output pixels, a *tile*, at once, and the kernels run vectors along tiles. So a map is
//! stored as four *phases*: the pixels of even rows and even columns, of even rows and odd columns, of odd rows and even
//! columns, of odd rows and odd columns. Tile (y, x) has one pixel in each phase, at the same index, and its neighbours are
//! one value or one row of tiles away: kernels never shuffle a vector.
//!
//! Each row of a phase ends with border values, which are also those to the left of the next row, and each image with border
//! rows, which are also those above the next image. Border values are always 0, the padding of the convolutions. A phase is
//! then one run of values: vectors cross rows and images, and maps of any size are equally fast.

use aligned_vec::{AVec, ConstAlign, avec};

/// Values of one aligned unit: 64 bytes, a vector of AVX-512 and a cache line.
pub const UNIT: usize = 16;

/// Memory that starts at a multiple of 64 bytes.
pub type Buffer = AVec<f32, ConstAlign<64>>;

/// A buffer of zeros.
pub fn zeros(length: usize) -> Buffer {
    avec![[64] | 0.0; length]
}

/// The layout of all maps of one size.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Images of a map.
    pub images: usize,
    /// Rows of pixels of an image.
    pub height: usize,
    /// Columns of pixels of an image.
    pub width: usize,
    /// Distance from a tile to the one below: the tiles of a row and its border.
    pub stride: usize,
    /// Rows of tiles of an image and its border.
    pub rows: usize,
    /// Tiles that kernels compute, borders included: a multiple of [`UNIT`].
    pub tiles: usize,
    /// Index of the first tile in a phase.
    pub front: usize,
    /// Values of a phase.
    pub plane: usize,
    /// 1 for a pixel and 0 for a border value, of each phase and tile: `[4, tiles]`.
    mask: Buffer,
}

impl Grid {
    /// The layout of `images` maps of `height × width` pixels with `border` tiles between rows and images: 1 for kernels up
    /// to 3×3, 2 up to 7×7.
    pub fn new(images: usize, height: usize, width: usize, border: usize) -> Self {
        let mut grid = Self::without_mask(images, height, width, border);
        let mut mask = zeros(grid.mask_values());
        for image in 0..images {
            for y in 0..height {
                for x in 0..width {
                    let (phase, tile) = grid.place(image, y, x);
                    mask[phase * grid.tiles + tile] = 1.0;
                }
            }
        }
        grid.mask = mask;
        grid
    }

    /// The same for its sizes alone: nothing is allocated.
    pub(crate) fn without_mask(images: usize, height: usize, width: usize, border: usize) -> Self {
        let (stride, rows) = (width.div_ceil(2) + border, height.div_ceil(2) + border);
        let tiles = (images * rows * stride).saturating_sub(border * stride).next_multiple_of(UNIT);
        let reach = border * (stride + 1);
        let front = reach.next_multiple_of(UNIT);
        let plane = (front + tiles + reach).next_multiple_of(UNIT);
        Self { images, height, width, stride, rows, tiles, front, plane, mask: zeros(0) }
    }

    /// Values of the mask.
    pub(crate) fn mask_values(&self) -> usize {
        4 * self.tiles
    }

    /// Values of one channel of a map.
    #[inline(always)]
    pub fn channel(&self) -> usize {
        4 * self.plane
    }

    /// The mask of one phase, `[tiles]`.
    #[inline(always)]
    pub fn mask(&self, phase: usize) -> &[f32] {
        &self.mask[phase * self.tiles..][..self.tiles]
    }

    /// Runs of tiles that hold pixels among `count` tiles from `tile` on: first one, from there, and number.
    pub fn runs(&self, tile: usize, count: usize) -> Vec<(usize, usize)> {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let rows = tile / self.stride..=(tile + count) / self.stride;
        let rows = rows.filter(|row| row % self.rows < height && row / self.rows < self.images);
        rows.filter_map(|row| {
            let from = (row * self.stride).max(tile);
            let to = (row * self.stride + width).min(tile + count);
            (from < to).then(|| (from - tile, to - from))
        })
        .collect()
    }

    /// Phase and tile of a pixel.
    #[inline(always)]
    pub fn place(&self, image: usize, y: usize, x: usize) -> (usize, usize) {
        (2 * (y % 2) + x % 2, (image * self.rows + y / 2) * self.stride + x / 2)
    }

    /// Index of a pixel within its channel.
    #[inline(always)]
    pub fn index(&self, image: usize, y: usize, x: usize) -> usize {
        let (phase, tile) = self.place(image, y, x);
        phase * self.plane + self.front + tile
    }

    /// A map of zeros.
    pub fn map(&self, channels: usize) -> Buffer {
        zeros(channels * self.channel())
    }

    /// A map of zeros that has one value for each tile.
    pub fn tile_map(&self, channels: usize) -> Buffer {
        zeros(channels * self.plane)
    }

    /// A whole map, as kernels read it.
    #[inline(always)]
    pub fn view<'a>(&self, data: &'a [f32]) -> View<'a> {
        View { data, channel: 4 * self.plane, phase: self.plane }
    }

    /// A map with one value for each tile, as its nearest upsampling: the tile's four pixels have its value.
    #[inline(always)]
    pub fn upsampled<'a>(&self, data: &'a [f32]) -> View<'a> {
        View { data, channel: self.plane, phase: 0 }
    }

    /// Copies one image, `[channels, height, width]`, into a map.
    ///
    /// # Panics
    /// If a size differs.
    pub fn fill(&self, map: &mut [f32], image: usize, pixels: &[f32]) {
        let channels = pixels.len() / (self.height * self.width);
        assert_eq!(map.len(), channels * self.channel(), "a map of another size");
        for (map, pixels) in
            map.chunks_exact_mut(self.channel()).zip(pixels.chunks_exact(self.height * self.width))
        {
            for (y, row) in pixels.chunks_exact(self.width).enumerate() {
                for (x, &value) in row.iter().enumerate() {
                    map[self.index(image, y, x)] = value;
                }
            }
        }
    }

    /// Copies one image of a map to `[channels, height, width]`.
    ///
    /// # Panics
    /// If a size differs.
    pub fn read(&self, map: &[f32], image: usize, pixels: &mut [f32]) {
        let channels = pixels.len() / (self.height * self.width);
        assert_eq!(map.len(), channels * self.channel(), "a map of another size");
        for (map, pixels) in
            map.chunks_exact(self.channel()).zip(pixels.chunks_exact_mut(self.height * self.width))
        {
            for (y, row) in pixels.chunks_exact_mut(self.width).enumerate() {
                for (x, value) in row.iter_mut().enumerate() {
                    *value = map[self.index(image, y, x)];
                }
            }
        }
    }
}

/// A map to read: where channels and phases are.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its values.
    pub data: &'a [f32],
    /// Distance between channels.
    pub channel: usize,
    /// Distance between phases.
    pub phase: usize,
}

impl<'a> View<'a> {
    /// The channels from `first` on.
    #[inline(always)]
    pub fn from(&self, first: usize) -> &'a [f32] {
        &self.data[first * self.channel..]
    }
}
