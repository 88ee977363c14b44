//! 3×3 convolution by Winograd's F(2×2, 3×3) (Lavin and Gray, 2015): 16 products for four outputs instead of 36.
//!
//! For a tile of 2×2 outputs and its window d of 4×4 inputs, y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A. The products over all channels
//! are 16 independent products of matrices, one for each place of the transformed window.

use pulp::{Simd, WithSimd};

use crate::conv_kernel::ConvKernel;
use crate::finish::Finish;
use crate::grid::{Buffer, Grid, View, zeros};
use crate::simd::{MOST_VECTORS, channels_at_once, gate, load, relu, vectors, vectors_at_once, vectors_mut};

/// A transformed kernel, `[16, out / block, in, block]`.
#[derive(Clone, Debug)]
pub struct WinogradKernel {
    u: Buffer,
    n_in: usize,
    n_out: usize,
    block: usize,
}

impl ConvKernel for WinogradKernel {
    fn zeros(n_out: usize, n_in: usize) -> Self {
        let block = channels_at_once(n_out);
        Self { u: zeros(16 * n_in * n_out.next_multiple_of(block)), n_in, n_out, block }
    }

    fn set(&mut self, w: &[f32], gain: f32) {
        let n_in = self.n_in;
        self.fill(w, gain, |out, input| out * n_in + input, |i| i);
    }

    fn set_backward(&mut self, w: &[f32], gain: f32) {
        let n_out = self.n_out;
        self.fill(w, gain, |out, input| input * n_out + out, |i| 8 - i);
    }
}

impl WinogradKernel {
    #[inline(always)]
    fn fill(
        &mut self,
        w: &[f32],
        gain: f32,
        at: impl Fn(usize, usize) -> usize,
        tap: impl Fn(usize) -> usize,
    ) {
        let kernels = w.as_chunks::<9>().0;
        assert_eq!(kernels.len(), self.n_in * self.n_out, "a kernel of another size");
        let (block, n_in) = (self.block, self.n_in);
        let place = self.u.len() / 16;
        for out in 0..self.n_out {
            let first = out / block * n_in * block + out % block;
            for input in 0..n_in {
                let kernel = &kernels[at(out, input)];
                let g = |i: usize| kernel[tap(i)] * gain;
                // G = [1 0 0; ½ ½ ½; ½ -½ ½; 0 0 1]
                let three = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
                let [left, middle, right] = [0, 1, 2].map(|x| three(g(x), g(3 + x), g(6 + x)));
                let u = &mut self.u[first + input * block..];
                for y in 0..4 {
                    for (x, value) in three(left[y], middle[y], right[y]).into_iter().enumerate() {
                        u[(4 * y + x) * place] = value;
                    }
                }
            }
        }
    }
}

/// A convolution, to be dispatched. Input and output have the same layout.
pub struct Convolution<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The kernel.
    pub kernel: &'a WinogradKernel,
    /// The input.
    pub x: View<'a>,
    /// Whether the input passes a ReLU first.
    pub relu: bool,
    /// The epilogue.
    pub finish: Finish<'a>,
    /// The output.
    pub y: &'a mut [f32],
    /// Working memory.
    pub scratch: &'a mut Buffer,
}

impl WithSimd for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let vectors = self.grid.tiles / S::F32_LANES;
        let blocks = vectors.div_ceil(vectors_at_once::<S>(self.kernel.block));
        let mut from = 0;
        for block in 0..blocks {
            let to = vectors * (block + 1) / blocks;
            let tile = from * S::F32_LANES;
            match to - from {
                1 => self.block::<S, 1>(s, tile),
                2 => self.block::<S, 2>(s, tile),
                3 => self.block::<S, 3>(s, tile),
                _ => self.block::<S, MOST_VECTORS>(s, tile),
            }
            from = to;
        }
    }
}

/// Length of a channel's 16 transformed vectors, and one vector more, so that not all channels fall into the same cache lines.
#[inline(always)]
pub(crate) const fn channel_length<S: Simd, const N: usize>() -> usize {
    (16 * N + 1) * S::F32_LANES
}

impl Convolution<'_> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, s: S, tile: usize) {
        let WinogradKernel { u, n_in, n_out, block } = self.kernel;
        let (n_in, n_out) = (*n_in, *n_out);
        let length = channel_length::<S, N>();
        let need = (n_in + n_out.next_multiple_of(*block)) * length;
        if self.scratch.len() < need {
            *self.scratch = zeros(need);
        }
        let (v, m) = self.scratch.split_at_mut(n_in * length);
        for (channel, v) in v.chunks_exact_mut(length).enumerate() {
            let x = self.x.from(channel);
            if self.relu {
                transform::<S, N, true>(s, self.grid, x, self.x.phase, tile, v);
            } else {
                transform::<S, N, false>(s, self.grid, x, self.x.phase, tile, v);
            }
        }
        for (place, u) in u.chunks_exact(u.len() / 16).enumerate() {
            match block {
                6 => multiply::<S, 6, N>(s, u, v, m, n_in, place),
                4 => multiply::<S, 4, N>(s, u, v, m, n_in, place),
                _ => multiply::<S, 2, N>(s, u, v, m, n_in, place),
            }
        }
        let map = if let Finish::SumGate(_) = self.finish { self.grid.plane } else { self.grid.channel() };
        for (channel, (m, y)) in
            m.chunks_exact(length).zip(self.y.chunks_exact_mut(map)).take(n_out).enumerate()
        {
            let result = untransform::<S, N>(s, m, self.finish.bias(channel));
            if let Finish::SumGate(input) = self.finish {
                let at = self.grid.front + tile;
                let input = vectors::<S, N>(input, channel * map + at);
                let y = vectors_mut::<S, N>(y, at);
                for n in 0..N {
                    let upper = s.add_f32s(result[0][n], result[1][n]);
                    let lower = s.add_f32s(result[2][n], result[3][n]);
                    y[n] = gate(s, s.add_f32s(upper, lower), input[n]);
                }
            } else {
                for phase in 0..4 {
                    self.finish.store::<S, N>(s, self.grid, (channel, phase, tile), &result[phase], y);
                }
            }
        }
    }
}

/// Bᵀ d B of `N` vectors of tiles of one channel, `[16, N]`.
#[inline(always)]
pub(crate) fn transform<S: Simd, const N: usize, const RELU: bool>(
    s: S,
    grid: &Grid,
    x: &[f32],
    phase: usize,
    tile: usize,
    v: &mut [f32],
) {
    let here = grid.front + tile;
    let (above, below) = (here - grid.stride, here + grid.stride);
    let length = N * S::F32_LANES + 1;
    // A line of the windows: its even columns are 0 and 2, its odd columns −1 and 1.
    let even = [
        &x[2 * phase + above..][..length],
        &x[here..][..length],
        &x[2 * phase + here..][..length],
        &x[below..][..length],
    ];
    let odd = [
        &x[3 * phase + above - 1..][..length],
        &x[phase + here - 1..][..length],
        &x[3 * phase + here - 1..][..length],
        &x[phase + below - 1..][..length],
    ];
    let (v, _) = S::as_mut_simd_f32s(v);
    let v: &mut [[S::f32s; N]; 16] = v.as_chunks_mut::<N>().0.first_chunk_mut().expect("16 places");
    for n in 0..N {
        let mut t = [[s.splat_f32s(0.0); 4]; 4];
        for j in 0..4 {
            let mut d = [s.splat_f32s(0.0); 4];
            for i in 0..4 {
                let line = if j % 2 == 0 { odd[i] } else { even[i] };
                d[i] = load::<S>(line, n * S::F32_LANES + j / 2);
                if RELU {
                    d[i] = relu(s, d[i]);
                }
            }
            t[j] = [
                s.sub_f32s(d[0], d[2]),
                s.add_f32s(d[1], d[2]),
                s.sub_f32s(d[2], d[1]),
                s.sub_f32s(d[1], d[3]),
            ];
        }
        for i in 0..4 {
            v[4 * i][n] = s.sub_f32s(t[0][i], t[2][i]);
            v[4 * i + 1][n] = s.add_f32s(t[1][i], t[2][i]);
            v[4 * i + 2][n] = s.sub_f32s(t[2][i], t[1][i]);
            v[4 * i + 3][n] = s.sub_f32s(t[1][i], t[3][i]);
        }
    }
}

/// m = u · v at one place of the windows: `[out, in] · [in, N vectors]`.
#[inline(always)]
fn multiply<S: Simd, const C: usize, const N: usize>(
    s: S,
    u: &[f32],
    v: &[f32],
    m: &mut [f32],
    n_in: usize,
    place: usize,
) {
    let length = channel_length::<S, N>();
    let at = place * N * S::F32_LANES;
    for (u, m) in u.chunks_exact(n_in * C).zip(m.chunks_exact_mut(C * length)) {
        let mut acc = [[s.splat_f32s(0.0); N]; C];
        for (k, v) in u.as_chunks::<C>().0.iter().zip(v.chunks_exact(length)) {
            let v = vectors::<S, N>(v, at);
            for c in 0..C {
                let k = s.splat_f32s(k[c]);
                for n in 0..N {
                    acc[c][n] = s.mul_add_e_f32s(v[n], k, acc[c][n]);
                }
            }
        }
        for c in 0..C {
            *vectors_mut::<S, N>(m, c * length + at) = acc[c];
        }
    }
}

/// Aᵀ m A + bias of `N` vectors of tiles of one channel, `[4 phases, N]`.
#[inline(always)]
fn untransform<S: Simd, const N: usize>(s: S, m: &[f32], bias: f32) -> [[S::f32s; N]; 4] {
    let (m, _) = S::as_simd_f32s(m);
    let m: &[[S::f32s; N]; 16] = m.as_chunks::<N>().0.first_chunk().expect("16 places");
    let bias = s.splat_f32s(bias);
    let mut result = [[bias; N]; 4];
    for n in 0..N {
        let mut t = [[bias; 2]; 4];
        for x in 0..4 {
            let (a, b, c, d) = (m[x][n], m[4 + x][n], m[8 + x][n], m[12 + x][n]);
            t[x] = [s.add_f32s(a, s.add_f32s(b, c)), s.sub_f32s(s.sub_f32s(b, c), d)];
        }
        for i in 0..2 {
            let (a, b, c, d) = (t[0][i], t[1][i], t[2][i], t[3][i]);
            result[2 * i][n] = s.add_f32s(s.add_f32s(a, bias), s.add_f32s(b, c));
            result[2 * i + 1][n] = s.add_f32s(s.sub_f32s(b, c), s.sub_f32s(bias, d));
        }
    }
    result
}
