//! Gradients of kernels and biases: sums over pixels of products of two maps.
//!
//! Vectors run along tiles; each product of two channels has a vector of partial sums of its own in a register, which is
//! added up at the end of a strip of tiles.

use pulp::{Simd, WithSimd};

use crate::grid::{Buffer, Grid, View, zeros};
use crate::simd::{load, relu, roomy};

/// Vectors of tiles of a strip: what is read again for each pair of channels stays in the fast caches.
const STRIP: usize = 16;

/// The gradient of a 3×3 kernel, to be dispatched: added to `dw`.
pub struct KernelGradient<'a> {
    /// The layout of both maps.
    pub grid: &'a Grid,
    /// The gradient of the convolution's result; its border is 0.
    pub dy: &'a [f32],
    /// The convolution's input.
    pub x: View<'a>,
    /// Whether the input passed a ReLU first.
    pub relu: bool,
    /// The kernel's gradient, `[out, in, 3, 3]`.
    pub dw: &'a mut [f32],
    /// Input channels.
    pub n_in: usize,
    /// Working memory.
    pub scratch: &'a mut Buffer,
}

impl WithSimd for KernelGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let n_out = self.dw.len() / (9 * self.n_in);
        let vectors = self.grid.tiles / S::F32_LANES;
        let strips = vectors.div_ceil(STRIP);
        let need = STRIP * 4 * 6 * S::F32_LANES;
        if self.scratch.len() < need {
            *self.scratch = zeros(need);
        }
        for strip in 0..strips {
            let (from, to) = (vectors * strip / strips, vectors * (strip + 1) / strips);
            let tiles = (from * S::F32_LANES, to * S::F32_LANES);
            let mut out = 0;
            while out < n_out {
                let left = n_out - out;
                if roomy::<S>() && left >= 6 && (left == 6 || left >= 10) {
                    self.block::<S, 6>(s, out, tiles);
                    out += 6;
                } else if left >= 4 {
                    self.block::<S, 4>(s, out, tiles);
                    out += 4;
                } else if left >= 2 {
                    self.block::<S, 2>(s, out, tiles);
                    out += 2;
                } else {
                    self.block::<S, 1>(s, out, tiles);
                    out += 1;
                }
            }
        }
    }
}

impl KernelGradient<'_> {
    /// Output channels `out` to `out + C`, over a strip of tiles.
    #[inline(always)]
    fn block<S: Simd, const C: usize>(&mut self, s: S, out: usize, (from, to): (usize, usize)) {
        let grid = self.grid;
        let length = to - from;
        // dy in the order in which it is read: [2 rows, vector, channel, 2 columns].
        let (packed, _) = S::as_mut_simd_f32s(&mut self.scratch[..4 * C * length]);
        let (packed, _) = packed.as_chunks_mut::<2>();
        let (packed, _) = packed.as_chunks_mut::<C>();
        let count = length / S::F32_LANES;
        for c in 0..C {
            let dy = &self.dy[(out + c) * grid.channel()..][..grid.channel()];
            for phase in 0..4 {
                let dy = &dy[phase * grid.plane + grid.front + from..][..length];
                let (dy, _) = S::as_simd_f32s(dy);
                for (packed, dy) in packed[phase / 2 * count..].iter_mut().zip(dy) {
                    packed[c][phase % 2] = *dy;
                }
            }
        }
        let packed = &*packed;
        for input in 0..self.n_in {
            for ky in 0..3 {
                let mut acc = [[s.splat_f32s(0.0); 3]; C];
                for row in 0..2 {
                    // The input's row of pixels, 1 above the tile at 0.
                    let line: usize = row + ky;
                    let at = grid.front + from + line.div_ceil(2) * grid.stride - grid.stride;
                    let x = self.x.from(input);
                    let phase = if line.is_multiple_of(2) { 2 * self.x.phase } else { 0 };
                    let even = &x[phase + at..][..length + 1];
                    let odd = &x[phase + self.x.phase + at - 1..][..length + 1];
                    let dy = &packed[row * count..][..count];
                    if self.relu {
                        accumulate::<S, C, true>(s, even, odd, dy, &mut acc);
                    } else {
                        accumulate::<S, C, false>(s, even, odd, dy, &mut acc);
                    }
                }
                for c in 0..C {
                    let dw = &mut self.dw[((out + c) * self.n_in + input) * 9 + 3 * ky..][..3];
                    for kx in 0..3 {
                        dw[kx] += s.reduce_sum_f32s(acc[c][kx]);
                    }
                }
            }
        }
    }
}

/// Adds up what one row of pixels of a strip contributes to one row of `C` kernels.
#[inline(always)]
fn accumulate<S: Simd, const C: usize, const RELU: bool>(
    s: S,
    even: &[f32],
    odd: &[f32],
    dy: &[[[S::f32s; 2]; C]],
    acc: &mut [[S::f32s; 3]; C],
) {
    let mut sums = *acc;
    let (even_0, _) = S::as_simd_f32s(&even[..even.len() - 1]);
    let (even_1, _) = S::as_simd_f32s(&even[1..]);
    let (odd_0, _) = S::as_simd_f32s(&odd[..odd.len() - 1]);
    let (odd_1, _) = S::as_simd_f32s(&odd[1..]);
    for ((((dy, a), b), c), d) in dy.iter().zip(odd_0).zip(even_0).zip(odd_1).zip(even_1) {
        let mut x = [*a, *b, *c, *d];
        if RELU {
            x = [relu(s, x[0]), relu(s, x[1]), relu(s, x[2]), relu(s, x[3])];
        }
        for c in 0..C {
            for kx in 0..3 {
                sums[c][kx] = s.mul_add_e_f32s(dy[c][0], x[kx], sums[c][kx]);
            }
        }
        for c in 0..C {
            for kx in 0..3 {
                sums[c][kx] = s.mul_add_e_f32s(dy[c][1], x[kx + 1], sums[c][kx]);
            }
        }
    }
    *acc = sums;
}

/// The gradient of a 1×1 kernel, to be dispatched: added to `dw`.
pub struct PointwiseGradient<'a> {
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
}

impl WithSimd for PointwiseGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let n_out = self.dw.len() / self.n_in;
        let vectors = self.grid.tiles / S::F32_LANES;
        let strips = vectors.div_ceil(STRIP);
        for strip in 0..strips {
            let (from, to) = (vectors * strip / strips, vectors * (strip + 1) / strips);
            let tiles = (from * S::F32_LANES, to * S::F32_LANES);
            let mut out = 0;
            while out < n_out {
                out += match n_out - out {
                    1 => self.row::<S, 1>(s, out, tiles),
                    left if left < 4 || !roomy::<S>() => self.row::<S, 2>(s, out, tiles),
                    _ => self.row::<S, 4>(s, out, tiles),
                };
            }
        }
    }
}

impl PointwiseGradient<'_> {
    /// `C` channels of dy. Returns `C`.
    #[inline(always)]
    fn row<S: Simd, const C: usize>(&mut self, s: S, out: usize, tiles: (usize, usize)) -> usize {
        let mut input = 0;
        while input < self.n_in {
            input += match self.n_in - input {
                1 => self.block::<S, C, 1>(s, out, input, tiles),
                2..=5 => self.block::<S, C, 2>(s, out, input, tiles),
                _ => self.block::<S, C, 6>(s, out, input, tiles),
            };
        }
        C
    }

    /// The products of `C` channels of dy and `D` of x, over a strip of tiles. Returns `D`.
    #[inline(always)]
    fn block<S: Simd, const C: usize, const D: usize>(
        &mut self,
        s: S,
        out: usize,
        input: usize,
        (from, to): (usize, usize),
    ) -> usize {
        let mut acc = [[s.splat_f32s(0.0); D]; C];
        for phase in 0..4 {
            let at = phase * self.grid.plane + self.grid.front + from;
            let mut dy: [&[f32]; C] = [&[]; C];
            for c in 0..C {
                dy[c] = &self.dy[(out + c) * self.grid.channel() + at..][..to - from];
            }
            let mut x: [&[f32]; D] = [&[]; D];
            for d in 0..D {
                x[d] = &self.x[(input + d) * self.grid.channel() + at..][..to - from];
            }
            for at in (0..to - from).step_by(S::F32_LANES) {
                let mut v = [s.splat_f32s(0.0); C];
                for c in 0..C {
                    v[c] = load::<S>(dy[c], at);
                }
                for d in 0..D {
                    let mut x = load::<S>(x[d], at);
                    if self.relu {
                        x = relu(s, x);
                    }
                    for c in 0..C {
                        acc[c][d] = s.mul_add_e_f32s(v[c], x, acc[c][d]);
                    }
                }
            }
        }
        for c in 0..C {
            for d in 0..D {
                self.dw[(out + c) * self.n_in + input + d] += s.reduce_sum_f32s(acc[c][d]);
            }
        }
        D
    }
}

/// The gradient of a bias, to be dispatched: added to `db`.
pub struct BiasGradient<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The gradient of the convolution's result; its border is 0.
    pub dy: &'a [f32],
    /// The bias's gradient, `[out]`.
    pub db: &'a mut [f32],
}

impl WithSimd for BiasGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for (dy, db) in self.dy.chunks_exact(self.grid.channel()).zip(self.db) {
            let (dy, _) = S::as_simd_f32s(dy);
            let mut acc = [s.splat_f32s(0.0); 4];
            let (fours, rest) = dy.as_chunks::<4>();
            for dy in fours {
                for i in 0..4 {
                    acc[i] = s.add_f32s(acc[i], dy[i]);
                }
            }
            for dy in rest {
                acc[0] = s.add_f32s(acc[0], *dy);
            }
            let sum = s.add_f32s(s.add_f32s(acc[0], acc[1]), s.add_f32s(acc[2], acc[3]));
            *db += s.reduce_sum_f32s(sum);
        }
    }
}
