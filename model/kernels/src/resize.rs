//! 2×2 max-pooling, nearest ×2 upsampling, and their gradients.
//!
//! Both go between a small map and a large one, whose tiles are the small one's pixels. They do not depend on the values of
//! other tiles, so they only rearrange: a row of tiles becomes a row of pixels in two phases of the small map, and back.

use pulp::{Simd, WithSimd};

use crate::grid::Grid;

/// The pair of layouts.
#[derive(Clone, Copy)]
pub struct ResizePair<'a> {
    /// The layout of the large maps.
    pub large: &'a Grid,
    /// The layout of the small maps: as many images, half as high and wide.
    pub small: &'a Grid,
}

impl ResizePair<'_> {
    /// For each row of tiles: index of its first tile in a phase of the large map, and of its first two pixels in the small map.
    fn rows(&self) -> Vec<(usize, usize, usize)> {
        let row = |row: usize| {
            let (image, y) = (row / self.small.height, row % self.small.height);
            let large = self.large.front + (image * self.large.rows + y) * self.large.stride;
            (large, self.small.index(image, y, 0), self.small.index(image, y, 1))
        };
        (0..self.small.images * self.small.height).map(row).collect()
    }
}

/// What is done, to be dispatched.
pub enum Resize<'a> {
    /// The greatest of each tile's pixels: large map to small map.
    Max(&'a [f32], &'a mut [f32]),
    /// The gradient of [`Resize::Max`]: its input, the small gradient, and the large gradient, which is written.
    MaxGradient(&'a [f32], &'a [f32], &'a mut [f32]),
    /// A small map as a map of tiles of the large layout: what [`Grid::upsampled`] reads.
    Tiles(&'a [f32], &'a mut [f32]),
    /// The inverse of [`Resize::Tiles`].
    Pixels(&'a [f32], &'a mut [f32]),
    /// The gradient of an upsampling: the sum of each tile's pixels, large map to small map.
    Sum(&'a [f32], &'a mut [f32]),
}

/// A [`Resize`] between two layouts.
pub struct Resizing<'a>(pub ResizePair<'a>, pub Resize<'a>);

impl WithSimd for Resizing<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(pair, resize) = self;
        let (large, small) = (pair.large, pair.small);
        let (width, plane) = (small.width, large.plane);
        let rows = pair.rows();
        let mut row = vec![0.0; width];
        match resize {
            Resize::Max(x, y) => {
                for (x, y) in x.chunks_exact(large.channel()).zip(y.chunks_exact_mut(small.channel())) {
                    for &(from, even, odd) in &rows {
                        let [a, b, c, d] = four(x, from, plane, width);
                        for ((((row, a), b), c), d) in row.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                            *row = a.max(*b).max(c.max(*d));
                        }
                        split(&row, even, odd, y);
                    }
                }
            }
            Resize::Sum(x, y) => {
                for (x, y) in x.chunks_exact(large.channel()).zip(y.chunks_exact_mut(small.channel())) {
                    for &(from, even, odd) in &rows {
                        let [a, b, c, d] = four(x, from, plane, width);
                        for ((((row, a), b), c), d) in row.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                            *row = (a + b) + (c + d);
                        }
                        split(&row, even, odd, y);
                    }
                }
            }
            Resize::Pixels(x, y) => {
                for (x, y) in x.chunks_exact(plane).zip(y.chunks_exact_mut(small.channel())) {
                    for &(from, even, odd) in &rows {
                        split(&x[from..][..width], even, odd, y);
                    }
                }
            }
            Resize::Tiles(x, y) => {
                for (x, y) in x.chunks_exact(small.channel()).zip(y.chunks_exact_mut(plane)) {
                    for &(to, even, odd) in &rows {
                        join(x, even, odd, &mut y[to..][..width]);
                    }
                }
            }
            Resize::MaxGradient(x, dy, dx) => {
                for ((x, dy), dx) in x
                    .chunks_exact(large.channel())
                    .zip(dy.chunks_exact(small.channel()))
                    .zip(dx.chunks_exact_mut(large.channel()))
                {
                    for &(from, even, odd) in &rows {
                        join(dy, even, odd, &mut row);
                        max_gradient(four(x, from, plane, width), &row, from, plane, dx);
                    }
                }
            }
        }
    }
}

/// Gives each tile's gradient to the first of its greatest pixels.
#[inline(always)]
fn max_gradient([a, b, c, d]: [&[f32]; 4], dy: &[f32], from: usize, plane: usize, dx: &mut [f32]) {
    let width = dy.len();
    let (upper, lower) = dx.split_at_mut(2 * plane);
    let (da, db) = upper.split_at_mut(plane);
    let (dc, dd) = lower.split_at_mut(plane);
    let (da, db) = (&mut da[from..][..width], &mut db[from..][..width]);
    let (dc, dd) = (&mut dc[from..][..width], &mut dd[from..][..width]);
    // Slices of one length, so that no index is checked in the loop.
    let (a, b, c, d) = (&a[..width], &b[..width], &c[..width], &d[..width]);
    for i in 0..width {
        let (upper, lower) = (a[i].max(b[i]), c[i].max(d[i]));
        let (above, below) = if upper >= lower { (dy[i], 0.0) } else { (0.0, dy[i]) };
        (da[i], db[i]) = if a[i] >= b[i] { (above, 0.0) } else { (0.0, above) };
        (dc[i], dd[i]) = if c[i] >= d[i] { (below, 0.0) } else { (0.0, below) };
    }
}

/// A row of tiles in each phase.
#[inline(always)]
fn four(x: &[f32], from: usize, plane: usize, width: usize) -> [&[f32]; 4] {
    let row = |phase: usize| &x[phase * plane + from..][..width];
    [row(0), row(1), row(2), row(3)]
}

/// Writes a row of pixels into the phases of its even and odd columns.
#[inline(always)]
fn split(row: &[f32], even: usize, odd: usize, y: &mut [f32]) {
    // The phase of odd columns follows that of the even ones.
    let (head, tail) = y.split_at_mut(odd);
    let (pairs, rest) = row.as_chunks::<2>();
    let (evens, odds) = (&mut head[even..][..row.len().div_ceil(2)], &mut tail[..pairs.len()]);
    for ((pair, even), odd) in pairs.iter().zip(&mut *evens).zip(odds) {
        (*even, *odd) = (pair[0], pair[1]);
    }
    if let [last] = rest {
        evens[pairs.len()] = *last;
    }
}

/// Reads a row of pixels from the phases of its even and odd columns.
#[inline(always)]
fn join(x: &[f32], even: usize, odd: usize, row: &mut [f32]) {
    let (pairs, rest) = row.as_chunks_mut::<2>();
    let (evens, odds) = (&x[even..][..pairs.len() + rest.len()], &x[odd..][..pairs.len()]);
    for ((pair, even), odd) in pairs.iter_mut().zip(evens).zip(odds) {
        *pair = [*even, *odd];
    }
    if let [last] = rest {
        *last = evens[odds.len()];
    }
}
