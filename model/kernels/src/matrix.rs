//! Products of matrices whose rows lie one after the other, as transformers have them.
//!
//! Vectors run along columns. A product keeps the sums of a few rows and vectors of columns in registers; the right matrix is
//! [`Packed`] once, so that it is read in order.

use pulp::{Simd, WithSimd};

use crate::grid::{Buffer, UNIT, zeros};
use crate::simd::{load, roomy, vectors, vectors_mut};

/// Columns of a panel: three vectors of AVX-512, six of AVX2.
const PANEL: usize = 3 * UNIT;

/// A matrix `[k, n]` in panels of columns, each `[k, columns]`; columns are padded with zeros to whole units.
#[derive(Clone, Debug)]
pub struct Packed {
    data: Buffer,
    k: usize,
    n: usize,
}

impl Packed {
    /// A matrix of zeros.
    pub fn zeros(k: usize, n: usize) -> Self {
        Self { data: zeros(k * n.next_multiple_of(UNIT)), k, n }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.k
    }

    /// Columns, padding included.
    pub fn columns(&self) -> usize {
        self.n.next_multiple_of(UNIT)
    }

    /// Becomes `w`, `[k, n]`.
    pub fn set(&mut self, w: &[f32]) {
        let (k, n, columns) = (self.k, self.n, self.columns());
        assert_eq!(w.len(), k * n, "a matrix of another size");
        for from in (0..n).step_by(PANEL) {
            let width = PANEL.min(columns - from);
            let panel = &mut self.data[k * from..k * (from + width)];
            for (row, w) in panel.chunks_exact_mut(width).zip(w.chunks_exact(n)) {
                let count = width.min(n - from);
                row[..count].copy_from_slice(&w[from..from + count]);
            }
        }
    }

    /// Becomes the transpose of `w`, `[n, k]`.
    pub fn set_transposed(&mut self, w: &[f32]) {
        let (k, n, columns) = (self.k, self.n, self.columns());
        assert_eq!(w.len(), k * n, "a matrix of another size");
        for from in (0..n).step_by(PANEL) {
            let width = PANEL.min(columns - from);
            let panel = &mut self.data[k * from..k * (from + width)];
            for (column, w) in w.chunks_exact(k).skip(from).take(width).enumerate() {
                for (row, value) in panel.chunks_exact_mut(width).zip(w) {
                    row[column] = *value;
                }
            }
        }
    }

    fn panels(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let columns = self.columns();
        (0..columns).step_by(PANEL).map(move |from| {
            let width = PANEL.min(columns - from);
            (from, width, &self.data[self.k * from..self.k * (from + width)])
        })
    }
}

/// Rows of a matrix: the first value of row i is at `first + i·stride`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Its values.
    pub data: &'a [f32],
    /// Where the first row begins.
    pub first: usize,
    /// Distance between rows.
    pub stride: usize,
}

/// The epilogue of a product.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Stored, plus a bias for each column, which may be empty.
    Set(&'a [f32]),
    /// Added to what is there, plus a bias.
    Add(&'a [f32]),
}

/// y = a · b, to be dispatched: `rows` rows of `a`.
pub struct Product<'a> {
    /// The left matrix, `[rows, k]`.
    pub a: Rows<'a>,
    /// Rows to compute.
    pub rows: usize,
    /// The right matrix, `[k, n]`.
    pub b: &'a Packed,
    /// The epilogue.
    pub then: Then<'a>,
    /// The result; its rows are `stride` apart, at least `b`'s columns.
    pub y: &'a mut [f32],
    /// Distance between rows of the result.
    pub stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { a, rows, b, then, y, stride } = self;
        for (from, width, panel) in b.panels() {
            let mut column = 0;
            while column < width {
                let left = (width - column) / S::F32_LANES;
                // As many sums as there are registers for.
                let n = left.min(if roomy::<S>() { 3 } else { 2 });
                let place = (panel, width, column, from + column);
                match n {
                    1 => columns::<S, 1>(s, a, (rows, b.k), place, then, y, stride),
                    2 => columns::<S, 2>(s, a, (rows, b.k), place, then, y, stride),
                    _ => columns::<S, 3>(s, a, (rows, b.k), place, then, y, stride),
                }
                column += n * S::F32_LANES;
            }
        }
    }
}

/// All rows of some columns of a product.
#[inline(always)]
fn columns<S: Simd, const N: usize>(
    s: S,
    a: Rows<'_>,
    (rows, k): (usize, usize),
    place: (&[f32], usize, usize, usize),
    then: Then<'_>,
    y: &mut [f32],
    stride: usize,
) {
    let mut row = 0;
    while row < rows {
        row += match rows - row {
            1 => block::<S, 1, N>(s, a, (row, k), place, then, y, stride),
            2 | 3 => block::<S, 2, N>(s, a, (row, k), place, then, y, stride),
            4 | 5 => block::<S, 4, N>(s, a, (row, k), place, then, y, stride),
            _ => block::<S, 6, N>(s, a, (row, k), place, then, y, stride),
        };
    }
}

/// `C` rows and `N` vectors of columns. Returns `C`.
#[inline(always)]
fn block<S: Simd, const C: usize, const N: usize>(
    s: S,
    a: Rows<'_>,
    (row, k): (usize, usize),
    (panel, width, at, column): (&[f32], usize, usize, usize),
    then: Then<'_>,
    y: &mut [f32],
    stride: usize,
) -> usize {
    let mut lines: [&[f32]; C] = [&[]; C];
    for c in 0..C {
        lines[c] = &a.data[a.first + (row + c) * a.stride..][..k];
    }
    let mut acc = [[s.splat_f32s(0.0); N]; C];
    for (j, b) in panel.chunks_exact(width).enumerate().take(k) {
        let b = vectors::<S, N>(b, at);
        for c in 0..C {
            let a = s.splat_f32s(lines[c][j]);
            for n in 0..N {
                acc[c][n] = s.mul_add_e_f32s(b[n], a, acc[c][n]);
            }
        }
    }
    let (add, bias) = match then {
        Then::Set(bias) => (false, bias),
        Then::Add(bias) => (true, bias),
    };
    for c in 0..C {
        let y = vectors_mut::<S, N>(y, (row + c) * stride + column);
        for n in 0..N {
            let mut value = acc[c][n];
            if !bias.is_empty() {
                value = s.add_f32s(value, load::<S>(bias, column + n * S::F32_LANES));
            }
            y[n] = if add { s.add_f32s(y[n], value) } else { value };
        }
    }
    C
}

/// c += aᵀ · b, to be dispatched: the sum over `rows` rows of products of their values.
pub struct Outer<'a> {
    /// The left matrix, `[rows, m]`.
    pub a: Rows<'a>,
    /// Columns of `a`.
    pub m: usize,
    /// The right matrix, `[rows, n]`; n is a whole number of units.
    pub b: Rows<'a>,
    /// Columns of `b`.
    pub n: usize,
    /// Rows of both.
    pub rows: usize,
    /// The sum, `[m, n]`.
    pub c: &'a mut [f32],
    /// Distance between rows of the sum.
    pub stride: usize,
}

/// Values of `a` and `b` up to which they are read where they lie: the second cache holds them.
const NEAR: usize = 1 << 18;

/// Rows that are packed at once: a panel of them stays in the first cache.
const DEPTH: usize = 128;

/// Columns of `a` that are computed at once.
const HEIGHT: usize = 6;

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        if self.rows * (self.m + self.n) <= NEAR {
            let (a, b) = (&self.a.data[self.a.first..], &self.b.data[self.b.first..]);
            let (left, right) = ((a, self.a.stride), (b, self.b.stride));
            let mut column = 0;
            while column < self.n {
                column += self.panel(s, left, right, (self.rows, HEIGHT), column, column);
            }
            return;
        }
        // Rows of a large matrix are on as many pages of memory, and rarely in the caches when their next columns are read.
        let groups = self.m.div_ceil(HEIGHT);
        let mut left = zeros(groups * DEPTH * HEIGHT);
        let mut right = zeros(DEPTH * PANEL);
        for from in (0..self.rows).step_by(DEPTH) {
            let rows = DEPTH.min(self.rows - from);
            for i in 0..rows {
                let a = &self.a.data[self.a.first + (from + i) * self.a.stride..][..self.m];
                for (group, a) in a.chunks(HEIGHT).enumerate() {
                    left[(group * DEPTH + i) * HEIGHT..][..a.len()].copy_from_slice(a);
                }
            }
            for column in (0..self.n).step_by(PANEL) {
                let width = PANEL.min(self.n - column);
                for (i, row) in right.chunks_exact_mut(width).take(rows).enumerate() {
                    let b = self.b.first + (from + i) * self.b.stride + column;
                    row.copy_from_slice(&self.b.data[b..b + width]);
                }
                let mut done = 0;
                while done < width {
                    let (left, right) = ((&left[..], HEIGHT), (&right[..], width));
                    done += self.panel(s, left, right, (rows, DEPTH * HEIGHT), done, column + done);
                }
            }
        }
    }
}

impl Outer<'_> {
    /// Some columns of the sum, from `column` on, which are those of `b` from `at` on. Rows of `a` and `b` follow each other at a
    /// distance, groups of [`HEIGHT`] columns of `a` at the distance `apart`. Returns how many columns.
    #[inline(always)]
    fn panel<S: Simd>(
        &mut self,
        s: S,
        a: (&[f32], usize),
        b: (&[f32], usize),
        (rows, apart): (usize, usize),
        at: usize,
        column: usize,
    ) -> usize {
        let most = if roomy::<S>() { 3 } else { 2 };
        let vectors = most.min((self.n - column) / S::F32_LANES).min((b.1 - at) / S::F32_LANES);
        match vectors {
            1 => self.columns::<S, 1>(s, a, b, (rows, apart), at, column),
            2 => self.columns::<S, 2>(s, a, b, (rows, apart), at, column),
            _ => self.columns::<S, 3>(s, a, b, (rows, apart), at, column),
        }
        vectors * S::F32_LANES
    }

    #[inline(always)]
    fn columns<S: Simd, const N: usize>(
        &mut self,
        s: S,
        (a, a_stride): (&[f32], usize),
        b: (&[f32], usize),
        (rows, apart): (usize, usize),
        at: usize,
        column: usize,
    ) {
        let mut row = 0;
        while row < self.m {
            let a = (&a[row / HEIGHT * apart + row % HEIGHT..], a_stride);
            if self.m - row >= HEIGHT {
                self.block::<S, HEIGHT, N>(s, a, b, rows, at, (row, column));
                row += HEIGHT;
            } else {
                self.block::<S, 1, N>(s, a, b, rows, at, (row, column));
                row += 1;
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const C: usize, const N: usize>(
        &mut self,
        s: S,
        (a, a_stride): (&[f32], usize),
        (b, b_stride): (&[f32], usize),
        rows: usize,
        at: usize,
        (row, column): (usize, usize),
    ) {
        let mut acc = [[s.splat_f32s(0.0); N]; C];
        for c in 0..C {
            acc[c] = *vectors::<S, N>(self.c, (row + c) * self.stride + column);
        }
        for i in 0..rows {
            let a: &[f32; C] = a[i * a_stride..].first_chunk().expect("a row of a");
            let b = vectors::<S, N>(b, i * b_stride + at);
            for c in 0..C {
                let a = s.splat_f32s(a[c]);
                for n in 0..N {
                    acc[c][n] = s.mul_add_e_f32s(b[n], a, acc[c][n]);
                }
            }
        }
        for c in 0..C {
            *vectors_mut::<S, N>(self.c, (row + c) * self.stride + column) = acc[c];
        }
    }
}
