//! The gradient of a 3×3 kernel.

use pulp::{Simd, WithSimd};

use super::transpose::transpose;
use super::{OuterMemory, VECTORS, grow, products};
use crate::grid::{Grid, UNIT, View};
use crate::simd::{load, roomy, vectors_mut};
use crate::winograd::{channel_length, transform};

/// Channels of the map that is not transposed, in work at once.
const SCALARS: usize = 48;

/// The gradient of a 3×3 kernel, to be dispatched: added to `dw`. As
/// [`KernelGradient`](crate::gradient::KernelGradient).
pub struct OuterGradient<'a> {
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
    pub memory: &'a mut OuterMemory,
}

impl WithSimd for OuterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { grid, dy, x, relu, dw, n_in, memory } = self;
        let n_out = dw.len() / (9 * n_in);
        // Vectors along the channels that need less padding, or of which there are fewer.
        let padding = |channels: usize| channels.next_multiple_of(UNIT) * UNIT / channels;
        let inputs = (padding(n_in), n_in) < (padding(n_out), n_out);
        let map = grid.channel();
        let row = if inputs {
            transpose(s, x.data, (x.channel, n_in, x.channel), relu, &mut memory.transposed)
        } else {
            transpose(s, dy, (map, n_out, map), false, &mut memory.transposed)
        };
        let others = if inputs { n_out } else { n_in };
        let vectors = row / S::F32_LANES;
        let blocks = vectors.div_ceil(if roomy::<S>() { VECTORS } else { 2 });
        for first in (0..others).step_by(SCALARS) {
            let mut from = 0;
            for block in 0..blocks {
                let to = vectors * (block + 1) / blocks;
                let mut part = OuterPart {
                    grid,
                    x,
                    relu,
                    dy,
                    inputs,
                    row,
                    first_lane: from * S::F32_LANES,
                    first,
                    last: others.min(first + SCALARS),
                    memory,
                };
                match to - from {
                    1 => part.run::<S, 1>(s, dw, n_in),
                    2 => part.run::<S, 2>(s, dw, n_in),
                    _ => part.run::<S, VECTORS>(s, dw, n_in),
                }
                from = to;
            }
        }
    }
}

/// Some vectors of channels of the transposed map, with some channels of the other.
struct OuterPart<'a> {
    grid: &'a Grid,
    x: View<'a>,
    relu: bool,
    dy: &'a [f32],
    /// Whether the transposed map is the input.
    inputs: bool,
    row: usize,
    first_lane: usize,
    first: usize,
    last: usize,
    memory: &'a mut OuterMemory,
}

impl OuterPart<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&mut self, s: S, dw: &mut [f32], n_in: usize) {
        let width = N * S::F32_LANES;
        let rows = (self.last - self.first).next_multiple_of(6).next_multiple_of(4);
        grow(&mut self.memory.sums, 16 * rows * width);
        self.memory.sums[..16 * rows * width].fill(0.0);
        let vectors = self.grid.tiles / S::F32_LANES;
        let blocks = vectors.div_ceil(if roomy::<S>() { VECTORS } else { 2 });
        let mut from = 0;
        for block in 0..blocks {
            let to = vectors * (block + 1) / blocks;
            match to - from {
                1 => self.tiles::<S, N, 1>(s, from * S::F32_LANES, rows),
                2 => self.tiles::<S, N, 2>(s, from * S::F32_LANES, rows),
                _ => self.tiles::<S, N, VECTORS>(s, from * S::F32_LANES, rows),
            }
            from = to;
        }
        self.add::<S, N>(s, dw, n_in, rows);
    }

    /// Adds up what `M` vectors of tiles contribute.
    #[inline(always)]
    fn tiles<S: Simd, const N: usize, const M: usize>(&mut self, s: S, tile: usize, rows: usize) {
        let grid = self.grid;
        let (width, line) = (N * S::F32_LANES, channel_length::<S, M>());
        let OuterMemory { transposed, lanes, scalars, sums } = &mut *self.memory;
        grow(lanes, 16 * M * S::F32_LANES * width);
        grow(scalars, rows * line);
        for (channel, scalars) in (self.first..self.last).zip(scalars.chunks_exact_mut(line)) {
            if !self.inputs {
                let x = self.x.from(channel);
                if self.relu {
                    transform::<S, M, true>(s, grid, x, self.x.phase, tile, scalars);
                } else {
                    transform::<S, M, false>(s, grid, x, self.x.phase, tile, scalars);
                }
            } else {
                spread::<S, M>(s, grid, &self.dy[channel * grid.channel()..], tile, scalars);
            }
        }
        let runs = grid.runs(tile, M * S::F32_LANES);
        let count: usize = runs.iter().map(|run| run.1).sum();
        let place = count * width;
        let lanes = &mut lanes[..16 * place];
        let valid = runs.iter().flat_map(|&(from, length)| from..from + length);
        for (i, t) in valid.enumerate() {
            let at = grid.front + tile + t;
            let lanes = &mut lanes[i * width..];
            if self.inputs {
                window::<S, N>(
                    s,
                    grid,
                    (transposed, self.row, self.x.phase),
                    at,
                    self.first_lane,
                    lanes,
                    place,
                );
            } else {
                spread_row::<S, N>(s, grid, (transposed, self.row), at, self.first_lane, lanes, place);
            }
        }
        if count == 0 {
            return;
        }
        for (i, (lanes, sums)) in
            lanes.chunks_exact(place).zip(sums.chunks_exact_mut(rows * width)).enumerate()
        {
            let a = &scalars[i * M * S::F32_LANES..];
            let mut at = 0;
            while at < self.last - self.first {
                let (a, b, c) = ((&a[at * line..], line), (lanes, width, 0), &mut sums[at * width..]);
                if (self.last - self.first - at).is_multiple_of(6) {
                    products::<S, 6, N>(s, a, b, &runs, c, width);
                    at += 6;
                } else {
                    products::<S, 4, N>(s, a, b, &runs, c, width);
                    at += 4;
                }
            }
        }
    }

    /// Adds Gᵀ sums G to the kernels' gradients.
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&self, s: S, dw: &mut [f32], n_in: usize, rows: usize) {
        let n_out = dw.len() / (9 * n_in);
        let width = N * S::F32_LANES;
        let channels = if self.inputs { n_in } else { n_out };
        let half = s.splat_f32s(0.5);
        let mut taps = [[0.0; VECTORS * UNIT]; 9];
        for other in 0..self.last - self.first {
            for n in 0..N {
                let at = other * width + n * S::F32_LANES;
                let mut columns = [[half; 3]; 4];
                for x in 0..4 {
                    let mut m = [half; 4];
                    for y in 0..4 {
                        m[y] = load::<S>(&self.memory.sums, (4 * y + x) * rows * width + at);
                    }
                    columns[x] = three(s, m);
                }
                for y in 0..3 {
                    let line = three(s, [columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
                    for x in 0..3 {
                        vectors_mut::<S, 1>(&mut taps[3 * y + x], n * S::F32_LANES)[0] = line[x];
                    }
                }
            }
            for lane in 0..width.min(channels.saturating_sub(self.first_lane)) {
                let (other, lane_channel) = (self.first + other, self.first_lane + lane);
                let (out, input) = if self.inputs { (other, lane_channel) } else { (lane_channel, other) };
                let dw = &mut dw[(out * n_in + input) * 9..][..9];
                for k in 0..9 {
                    dw[k] += taps[k][lane];
                }
            }
        }
    }
}

/// Gᵀ m.
#[inline(always)]
fn three<S: Simd>(s: S, m: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = s.splat_f32s(0.5);
    let plus = s.mul_f32s(half, s.add_f32s(m[1], m[2]));
    let minus = s.mul_f32s(half, s.sub_f32s(m[1], m[2]));
    [s.add_f32s(m[0], plus), minus, s.add_f32s(plus, m[3])]
}

/// Bᵀ d B of one tile, for `N` vectors of channels from `first` on, into 16 places.
#[inline(always)]
fn window<S: Simd, const N: usize>(
    s: S,
    grid: &Grid,
    (x, row, phase): (&[f32], usize, usize),
    tile: usize,
    first: usize,
    out: &mut [f32],
    place: usize,
) {
    let lines = [2 * phase + tile - grid.stride, tile, 2 * phase + tile, tile + grid.stride];
    for n in 0..N {
        let first = first + n * S::F32_LANES;
        let mut t = [[s.splat_f32s(0.0); 4]; 4];
        for j in 0..4 {
            let mut d = [s.splat_f32s(0.0); 4];
            for i in 0..4 {
                // Columns −1 and 1 are odd, 0 and 2 are even.
                let at = if j % 2 == 0 { phase + lines[i] + j / 2 - 1 } else { lines[i] + j / 2 };
                d[i] = load::<S>(x, at * row + first);
            }
            t[j] = [
                s.sub_f32s(d[0], d[2]),
                s.add_f32s(d[1], d[2]),
                s.sub_f32s(d[2], d[1]),
                s.sub_f32s(d[1], d[3]),
            ];
        }
        for i in 0..4 {
            let line = [
                s.sub_f32s(t[0][i], t[2][i]),
                s.add_f32s(t[1][i], t[2][i]),
                s.sub_f32s(t[2][i], t[1][i]),
                s.sub_f32s(t[1][i], t[3][i]),
            ];
            for j in 0..4 {
                vectors_mut::<S, 1>(out, (4 * i + j) * place + n * S::F32_LANES)[0] = line[j];
            }
        }
    }
}

/// The rows of A applied to two values: both outputs' contributions to four places.
#[inline(always)]
fn four<S: Simd>(s: S, a: S::f32s, b: S::f32s) -> [S::f32s; 4] {
    [a, s.add_f32s(a, b), s.sub_f32s(a, b), s.sub_f32s(s.splat_f32s(0.0), b)]
}

/// A dy Aᵀ of one tile, for `N` vectors of channels from `first` on, into 16 places.
#[inline(always)]
fn spread_row<S: Simd, const N: usize>(
    s: S,
    grid: &Grid,
    (dy, row): (&[f32], usize),
    tile: usize,
    first: usize,
    out: &mut [f32],
    place: usize,
) {
    for n in 0..N {
        let first = first + n * S::F32_LANES;
        let mut d = [s.splat_f32s(0.0); 4];
        for phase in 0..4 {
            d[phase] = load::<S>(dy, (phase * grid.plane + tile) * row + first);
        }
        let (left, right) = (four(s, d[0], d[2]), four(s, d[1], d[3]));
        for i in 0..4 {
            let line = four(s, left[i], right[i]);
            for j in 0..4 {
                vectors_mut::<S, 1>(out, (4 * i + j) * place + n * S::F32_LANES)[0] = line[j];
            }
        }
    }
}

/// A dy Aᵀ of `N` vectors of tiles of one channel, `[16, N]`.
#[inline(always)]
fn spread<S: Simd, const N: usize>(s: S, grid: &Grid, dy: &[f32], tile: usize, v: &mut [f32]) {
    let (v, _) = S::as_mut_simd_f32s(v);
    let v: &mut [[S::f32s; N]; 16] = v.as_chunks_mut::<N>().0.first_chunk_mut().expect("16 places");
    let at = grid.front + tile;
    for n in 0..N {
        let mut d = [s.splat_f32s(0.0); 4];
        for phase in 0..4 {
            d[phase] = load::<S>(dy, phase * grid.plane + at + n * S::F32_LANES);
        }
        let (left, right) = (four(s, d[0], d[2]), four(s, d[1], d[3]));
        for i in 0..4 {
            let line = four(s, left[i], right[i]);
            for j in 0..4 {
                v[4 * i + j][n] = line[j];
            }
        }
    }
}
