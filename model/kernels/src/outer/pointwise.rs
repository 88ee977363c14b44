//! The gradient of a 1×1 kernel.

use pulp::{Simd, WithSimd};

use super::transpose::transpose;
use super::{OuterMemory, VECTORS, grow, products};
use crate::grid::{Buffer, Grid};
use crate::simd::roomy;

/// The gradient of a 1×1 kernel, to be dispatched: added to `dw`. As
/// [`PointwiseGradient`](crate::gradient::PointwiseGradient).
pub struct OuterPointwiseGradient<'a> {
    /// The layout of both maps.
    pub grid: &'a Grid,
    /// The gradient of the convolution's result; its border is 0.
    pub dy: &'a [f32],
    /// The convolution's input.
    pub x: &'a [f32],
    /// Whether the input passed a ReLU first.
    pub relu: bool,
    /// The kernel's gradient, `[out, in]`.
    pub dw: &'a mut [f32],
    /// Input channels.
    pub n_in: usize,
    /// Working memory.
    pub memory: &'a mut OuterMemory,
}

impl WithSimd for OuterPointwiseGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { grid, dy, x, relu, dw, n_in, memory } = self;
        let map = grid.channel();
        let row = transpose(s, x, (map, n_in, map), relu, &mut memory.transposed);
        let vectors = row / S::F32_LANES;
        let blocks = vectors.div_ceil(if roomy::<S>() { VECTORS } else { 2 });
        let mut from = 0;
        for block in 0..blocks {
            let to = vectors * (block + 1) / blocks;
            let part = (&memory.transposed[..], row, from * S::F32_LANES);
            match to - from {
                1 => pointwise::<S, 1>(s, grid, part, dy, dw, n_in, &mut memory.sums),
                2 => pointwise::<S, 2>(s, grid, part, dy, dw, n_in, &mut memory.sums),
                _ => pointwise::<S, VECTORS>(s, grid, part, dy, dw, n_in, &mut memory.sums),
            }
            from = to;
        }
    }
}

/// `N` vectors of input channels with all output channels.
#[inline(always)]
fn pointwise<S: Simd, const N: usize>(
    s: S,
    grid: &Grid,
    (x, row, first): (&[f32], usize, usize),
    dy: &[f32],
    dw: &mut [f32],
    n_in: usize,
    sums: &mut Buffer,
) {
    let width = N * S::F32_LANES;
    let n_out = dw.len() / n_in;
    let map = grid.channel();
    grow(sums, 6 * width);
    let mut out = 0;
    while out < n_out {
        let block = match n_out - out {
            1..=3 => n_out - out,
            left if left.is_multiple_of(6) => 6,
            _ => 4,
        };
        sums[..6 * width].fill(0.0);
        for phase in 0..4 {
            let at = phase * grid.plane + grid.front;
            let b = (&x[at * row..(at + grid.tiles) * row], row, first);
            let a = (&dy[out * map + at..], map);
            let runs = [(0, grid.tiles)];
            match block {
                6 => products::<S, 6, N>(s, a, b, &runs, sums, width),
                4 => products::<S, 4, N>(s, a, b, &runs, sums, width),
                3 => products::<S, 3, N>(s, a, b, &runs, sums, width),
                2 => products::<S, 2, N>(s, a, b, &runs, sums, width),
                _ => products::<S, 1, N>(s, a, b, &runs, sums, width),
            }
        }
        for (dw, sums) in dw[out * n_in..].chunks_exact_mut(n_in).zip(sums.chunks_exact(width)).take(block) {
            for (dw, sum) in dw.iter_mut().skip(first).zip(sums) {
                *dw += sum;
            }
        }
        out += block;
    }
}
