//! 1×1 convolution: a product of matrices, channels by pixels, whatever the order of pixels.

use pulp::{Simd, WithSimd};

use crate::conv_kernel::ConvKernel;
use crate::finish::Finish;
use crate::grid::{Buffer, Grid, zeros};
use crate::simd::{MOST_VECTORS, channels_at_once, relu, vectors, vectors_at_once};

/// A packed kernel, `[out / block, in, block]`.
#[derive(Clone, Debug)]
pub struct PointwiseKernel {
    w: Buffer,
    n_in: usize,
    n_out: usize,
    block: usize,
}

impl ConvKernel for PointwiseKernel {
    fn zeros(n_out: usize, n_in: usize) -> Self {
        // Each value of the input is read, and passes its ReLU, once for all channels of a block.
        let wide = cfg!(target_arch = "wasm32") && n_out.is_multiple_of(4);
        let block = if wide { 4 } else { channels_at_once(n_out) };
        Self { w: zeros(n_out.next_multiple_of(block) * n_in), n_in, n_out, block }
    }

    fn set(&mut self, w: &[f32], gain: f32) {
        let n_in = self.n_in;
        self.fill(w, gain, |out, input| out * n_in + input);
    }

    fn set_backward(&mut self, w: &[f32], gain: f32) {
        let n_out = self.n_out;
        self.fill(w, gain, |out, input| input * n_out + out);
    }
}

impl PointwiseKernel {
    #[inline(always)]
    fn fill(&mut self, w: &[f32], gain: f32, at: impl Fn(usize, usize) -> usize) {
        assert_eq!(w.len(), self.n_in * self.n_out, "a kernel of another size");
        let (n_in, n_out, block) = (self.n_in, self.n_out, self.block);
        for (row, packed) in self.w.chunks_exact_mut(block).enumerate() {
            let (first, input) = (row / n_in * block, row % n_in);
            for (out, value) in (first..n_out).zip(packed) {
                *value = gain * w[at(out, input)];
            }
        }
    }
}

/// A 1×1 convolution, to be dispatched. Input and output have the same layout.
pub struct Pointwise<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The kernel.
    pub kernel: &'a PointwiseKernel,
    /// The input.
    pub x: &'a [f32],
    /// Whether the input passes a ReLU first.
    pub relu: bool,
    /// The epilogue.
    pub finish: Finish<'a>,
    /// The output.
    pub y: &'a mut [f32],
}

impl WithSimd for Pointwise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let vectors = self.grid.tiles / S::F32_LANES;
        let blocks = vectors.div_ceil(vectors_at_once::<S>(self.kernel.block));
        for phase in 0..4 {
            let mut from = 0;
            for block in 0..blocks {
                let to = vectors * (block + 1) / blocks;
                let tile = from * S::F32_LANES;
                match to - from {
                    1 => self.block::<S, 1>(s, phase, tile),
                    2 => self.block::<S, 2>(s, phase, tile),
                    3 => self.block::<S, 3>(s, phase, tile),
                    _ => self.block::<S, MOST_VECTORS>(s, phase, tile),
                }
                from = to;
            }
        }
    }
}

impl Pointwise<'_> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, s: S, phase: usize, tile: usize) {
        match (self.kernel.block, self.relu) {
            (6, false) => self.multiply::<S, 6, N, false>(s, phase, tile),
            (6, true) => self.multiply::<S, 6, N, true>(s, phase, tile),
            (4, false) => self.multiply::<S, 4, N, false>(s, phase, tile),
            (4, true) => self.multiply::<S, 4, N, true>(s, phase, tile),
            (_, false) => self.multiply::<S, 2, N, false>(s, phase, tile),
            (_, true) => self.multiply::<S, 2, N, true>(s, phase, tile),
        }
    }

    #[inline(always)]
    fn multiply<S: Simd, const C: usize, const N: usize, const RELU: bool>(
        &mut self,
        s: S,
        phase: usize,
        tile: usize,
    ) {
        let map = self.grid.channel();
        let at = phase * self.grid.plane + self.grid.front + tile;
        let PointwiseKernel { w, n_in, n_out, .. } = self.kernel;
        for (block, (w, y)) in
            w.chunks_exact(n_in * C).zip(self.y[..n_out * map].chunks_mut(C * map)).enumerate()
        {
            let mut biases = [0.0; C];
            for c in 0..C {
                biases[c] = self.finish.bias(block * C + c);
            }
            let x = self.x.chunks_exact(map);
            let result = product::<S, C, N, RELU>(s, &biases, w, x, at);
            for c in 0..C {
                if let Some(y) = y.get_mut(c * map..(c + 1) * map) {
                    self.finish.store::<S, N>(s, self.grid, (block * C + c, phase, tile), &result[c], y);
                }
            }
        }
    }
}

/// bias + w · x for `C` output channels and `N` vectors from `at` on.
///
/// Only constants index the sums, so that they stay in registers.
#[inline(always)]
fn product<'a, S: Simd, const C: usize, const N: usize, const RELU: bool>(
    s: S,
    bias: &[f32; C],
    w: &[f32],
    x: impl Iterator<Item = &'a [f32]>,
    at: usize,
) -> [[S::f32s; N]; C] {
    let mut acc = [[s.splat_f32s(0.0); N]; C];
    for c in 0..C {
        acc[c] = [s.splat_f32s(bias[c]); N];
    }
    for (k, x) in w.as_chunks::<C>().0.iter().zip(x) {
        let mut x = *vectors::<S, N>(x, at);
        if RELU {
            for n in 0..N {
                x[n] = relu(s, x[n]);
            }
        }
        for c in 0..C {
            let k = s.splat_f32s(k[c]);
            for n in 0..N {
                acc[c][n] = s.mul_add_e_f32s(x[n], k, acc[c][n]);
            }
        }
    }
    acc
}
