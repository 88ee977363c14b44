//! Layers on rows in tiles of 64 columns; see [`skinny`](crate::skinny).

use pulp::{Simd, WithSimd};

use crate::grid::{Buffer, zeros};
use crate::rows::{EPSILON, GeluInPlace};
use crate::simd::{Processor, load, vectors_mut};
use crate::skinny::{Matrix, Skinny, TILE, tiles};
use crate::threads::Threads;

/// Gain and bias of a LayerNorm, `[d]`.
#[derive(Clone, Debug)]
pub(super) struct NormWeights {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// y = x·W + b.
#[derive(Clone, Debug)]
pub(super) struct LinearWeights {
    pub matrix: Matrix,
    pub bias: Vec<f32>,
}

/// The epilogue of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Epilogue {
    /// Added to what is there.
    Add,
    /// Stored.
    Set,
    /// Stored after GELU.
    Gelu,
}

/// The CPU's vectors and threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub processor: Processor,
    pub threads: Threads,
}

impl Engine {
    /// A product of rows in tiles with a layer's matrix, in tiles.
    pub fn linear(&self, a: &[f32], rows: usize, layer: &LinearWeights, then: Epilogue, y: &mut [f32]) {
        let compute = |first: usize, y: &mut [f32]| {
            for (y, bias) in y.chunks_exact_mut(rows * TILE).zip(layer.bias.chunks(TILE).skip(first)) {
                for y in y.chunks_exact_mut(TILE) {
                    if then == Epilogue::Add {
                        y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                    } else {
                        y[..bias.len()].copy_from_slice(bias);
                        y[bias.len()..].fill(0.0);
                    }
                }
            }
            self.processor.run(Skinny { a, rows, w: &layer.matrix, first, y });
            if then == Epilogue::Gelu {
                self.processor.run(GeluInPlace { x: y });
            }
        };
        let work = layer.matrix.k() * layer.matrix.n() * (rows + 3) / 4;
        self.threads.slices(y, rows * TILE, work, compute);
    }

    /// The same, in new memory.
    pub fn linear_to_new(&self, a: &[f32], rows: usize, layer: &LinearWeights, then: Epilogue) -> Buffer {
        let mut y = zeros(tiles(rows, layer.matrix.n()));
        self.linear(a, rows, layer, then, &mut y);
        y
    }

    /// LayerNorm of rows in tiles.
    pub fn norm(&self, x: &[f32], rows: usize, norm: &NormWeights) -> Buffer {
        let mut y = zeros(x.len());
        self.processor.run(TileNorm { x, rows, norm, y: &mut y });
        y
    }
}

/// LayerNorm of rows in tiles, to be dispatched.
struct TileNorm<'a> {
    x: &'a [f32],
    rows: usize,
    norm: &'a NormWeights,
    y: &'a mut [f32],
}

impl WithSimd for TileNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, rows, norm, y } = self;
        let d = norm.gamma.len();
        let place = |row: usize, column: usize| (column / TILE * rows + row) * TILE + column % TILE;
        for row in 0..rows {
            let mut sum = s.splat_f32s(0.0);
            for column in (0..d).step_by(S::F32_LANES) {
                sum = s.add_f32s(sum, load::<S>(x, place(row, column)));
            }
            let mean = s.splat_f32s(s.reduce_sum_f32s(sum) / d as f32);
            let mut squares = s.splat_f32s(0.0);
            for column in (0..d).step_by(S::F32_LANES) {
                let away = s.sub_f32s(load::<S>(x, place(row, column)), mean);
                squares = s.mul_add_e_f32s(away, away, squares);
            }
            let scale = 1.0 / (s.reduce_sum_f32s(squares) / d as f32 + EPSILON).sqrt();
            let scale = s.splat_f32s(scale);
            for column in (0..d).step_by(S::F32_LANES) {
                let at = place(row, column);
                let normal = s.mul_f32s(s.sub_f32s(load::<S>(x, at), mean), scale);
                let (gamma, beta) = (load::<S>(&norm.gamma, column), load::<S>(&norm.beta, column));
                vectors_mut::<S, 1>(y, at)[0] = s.mul_add_e_f32s(normal, gamma, beta);
            }
        }
    }
}

/// Copies columns of a row in tiles, from `from` on, to `to`. Both are whole units, so a unit never crosses a tile.
pub(super) fn read_columns(x: &[f32], rows: usize, row: usize, from: usize, to: &mut [f32]) {
    let mut column = from;
    let mut rest = to;
    while !rest.is_empty() {
        let count = rest.len().min(TILE - column % TILE);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&x[(column / TILE * rows + row) * TILE + column % TILE..][..count]);
        (column, rest) = (column + count, later);
    }
}

/// Copies `from` to columns of a row in tiles, from `to` on.
pub(super) fn write_columns(x: &mut [f32], rows: usize, row: usize, to: usize, from: &[f32]) {
    let mut column = to;
    let mut rest = from;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(TILE - column % TILE));
        x[(column / TILE * rows + row) * TILE + column % TILE..][..now.len()].copy_from_slice(now);
        (column, rest) = (column + now.len(), later);
    }
}
