//! The encoder's first layer: a 7×7 convolution of few channels, forward and its kernel's gradient, directly.
//!
//! Its grid needs a border of two tiles.

use pulp::{Simd, WithSimd};

use crate::finish::Finish;
use crate::grid::{Buffer, Grid, zeros};
use crate::simd::{load, roomy, vectors};

/// Side of the kernel.
pub const SIDE: usize = 7;

/// Output channels computed at once.
const BLOCK: usize = 6;

/// Most vectors computed at once.
const VECTORS: usize = 4;

/// A packed kernel, `[out / block, in, 7, 7, block]`.
#[derive(Clone, Debug)]
pub struct StemKernel {
    w: Buffer,
    n_in: usize,
    n_out: usize,
}

impl StemKernel {
    /// A kernel of zeros.
    pub fn zeros(n_out: usize, n_in: usize) -> Self {
        Self { w: zeros(n_out.next_multiple_of(BLOCK) * n_in * SIDE * SIDE), n_in, n_out }
    }

    /// Becomes the kernel `w`, `[out, in, 7, 7]`.
    pub fn set(&mut self, w: &[f32]) {
        let taps = self.n_in * SIDE * SIDE;
        assert_eq!(w.len(), self.n_out * taps, "a kernel of another size");
        for (out, w) in w.chunks_exact(taps).enumerate() {
            for (tap, value) in w.iter().enumerate() {
                self.w[(out / BLOCK * taps + tap) * BLOCK + out % BLOCK] = *value;
            }
        }
    }
}

/// Where the pixels of one row or column are that lie `distance` from a tile's first: their phase's row or column, and tiles.
#[inline(always)]
const fn apart(distance: isize) -> (usize, isize) {
    (distance.rem_euclid(2) as usize, distance.div_euclid(2))
}

/// The convolution, to be dispatched: result + bias. Input and output have the same layout.
pub struct Stem<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The kernel.
    pub kernel: &'a StemKernel,
    /// Its bias.
    pub bias: &'a [f32],
    /// The input.
    pub x: &'a [f32],
    /// The output.
    pub y: &'a mut [f32],
}

impl WithSimd for Stem<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let vectors = if roomy::<S>() { VECTORS } else { 2 };
        let width = vectors * S::F32_LANES;
        let whole = self.grid.tiles / width * width;
        for phase in 0..4 {
            for tile in (0..whole).step_by(width) {
                match vectors {
                    2 => self.block::<S, 2>(s, phase, tile),
                    _ => self.block::<S, VECTORS>(s, phase, tile),
                }
            }
            for tile in (whole..self.grid.tiles).step_by(S::F32_LANES) {
                self.block::<S, 1>(s, phase, tile);
            }
        }
    }
}

impl Stem<'_> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, s: S, phase: usize, tile: usize) {
        let grid = self.grid;
        let StemKernel { w, n_in, n_out } = self.kernel;
        let finish = Finish::Set(self.bias);
        let taps = n_in * SIDE * SIDE;
        for (block, (w, y)) in w
            .chunks_exact(taps * BLOCK)
            .zip(self.y[..n_out * grid.channel()].chunks_mut(BLOCK * grid.channel()))
            .enumerate()
        {
            let mut acc = [[s.splat_f32s(0.0); N]; BLOCK];
            for c in 0..BLOCK {
                acc[c] = [s.splat_f32s(finish.bias(block * BLOCK + c)); N];
            }
            let mut taps = w.as_chunks::<BLOCK>().0.iter();
            for x in self.x.chunks_exact(grid.channel()) {
                for ky in 0..SIDE {
                    let (row, down) = apart((phase / 2 + ky) as isize - 3);
                    for kx in 0..SIDE {
                        let (column, right) = apart((phase % 2 + kx) as isize - 3);
                        let away = down * grid.stride as isize + right;
                        let at =
                            ((2 * row + column) * grid.plane + grid.front + tile).wrapping_add_signed(away);
                        let x = vectors::<S, N>(x, at);
                        let Some(k) = taps.next() else { return };
                        for c in 0..BLOCK {
                            let k = s.splat_f32s(k[c]);
                            for n in 0..N {
                                acc[c][n] = s.mul_add_e_f32s(x[n], k, acc[c][n]);
                            }
                        }
                    }
                }
            }
            for c in 0..BLOCK {
                // The index is a constant once unrolled: `acc` stays in registers.
                if let Some(y) = y.get_mut(c * grid.channel()..(c + 1) * grid.channel()) {
                    finish.store::<S, N>(s, grid, (block * BLOCK + c, phase, tile), &acc[c], y);
                }
            }
        }
    }
}

/// The gradient of the kernel, to be dispatched: added to `dw`.
pub struct StemGradient<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The gradient of the result; its border is 0.
    pub dy: &'a [f32],
    /// The input.
    pub x: &'a [f32],
    /// The kernel's gradient, `[out, in, 7, 7]`.
    pub dw: &'a mut [f32],
    /// Input channels.
    pub n_in: usize,
}

/// Tiles of a strip: what is read again for each pair of channels stays in the fast caches.
const STRIP: usize = 1024;

impl WithSimd for StemGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let n_out = self.dw.len() / (self.n_in * SIDE * SIDE);
        for from in (0..self.grid.tiles).step_by(STRIP) {
            let to = self.grid.tiles.min(from + STRIP);
            let most = if roomy::<S>() { 3 } else { 1 };
            for out in (0..n_out).step_by(most) {
                match most.min(n_out - out) {
                    1 => self.block::<S, 1>(s, out, from, to),
                    2 => self.block::<S, 2>(s, out, from, to),
                    _ => self.block::<S, 3>(s, out, from, to),
                }
            }
        }
    }
}

impl StemGradient<'_> {
    #[inline(always)]
    fn block<S: Simd, const C: usize>(&mut self, s: S, out: usize, from: usize, to: usize) {
        let grid = self.grid;
        for input in 0..self.n_in {
            let x = &self.x[input * grid.channel()..][..grid.channel()];
            for ky in 0..SIDE {
                let mut acc = [[s.splat_f32s(0.0); SIDE]; C];
                for row in 0..2 {
                    let (line, down) = apart((row + ky) as isize - 3);
                    let at = (2 * line * grid.plane + grid.front + from)
                        .wrapping_add_signed(down * grid.stride as isize);
                    // The tiles of the strip, from two before to two after.
                    let even = &x[at - 2..][..to - from + 4];
                    let odd = &x[at + grid.plane - 2..][..to - from + 4];
                    let mut dy: [[&[f32]; 2]; C] = [[&[]; 2]; C];
                    for c in 0..C {
                        for column in 0..2 {
                            let phase = (2 * row + column) * grid.plane + grid.front + from;
                            dy[c][column] = &self.dy[(out + c) * grid.channel() + phase..][..to - from];
                        }
                    }
                    for at in (0..to - from).step_by(S::F32_LANES) {
                        // Columns −3 to 4 from the tile's first.
                        let mut v = [s.splat_f32s(0.0); 8];
                        for i in 0..8 {
                            let (column, right) = apart(i as isize - 3);
                            let line = if column == 0 { even } else { odd };
                            v[i] = load::<S>(line, at + (right + 2) as usize);
                        }
                        for c in 0..C {
                            for column in 0..2 {
                                let dy = load::<S>(dy[c][column], at);
                                for kx in 0..SIDE {
                                    acc[c][kx] = s.mul_add_e_f32s(dy, v[kx + column], acc[c][kx]);
                                }
                            }
                        }
                    }
                }
                for c in 0..C {
                    let dw = &mut self.dw[(((out + c) * self.n_in + input) * SIDE + ky) * SIDE..][..SIDE];
                    for kx in 0..SIDE {
                        dw[kx] += s.reduce_sum_f32s(acc[c][kx]);
                    }
                }
            }
        }
    }
}
