//! Products of small matrices that are read where they lie, without packing.

use pulp::Simd;

use crate::simd::{roomy, vectors, vectors_mut};

/// y = a · b for `rows` rows of `a` with `k` values, and `b` with rows of `n`.
#[inline(always)]
pub(crate) fn product<S: Simd>(
    s: S,
    a: (&[f32], usize, usize, usize),
    b: (&[f32], usize, usize),
    y: &mut [f32],
    y_stride: usize,
) {
    products(s, a, b, y, y_stride, false);
}

/// The same, added to y if `add`: products of parts of the rows of `a`, one after the other, give the very values of one product.
#[inline(always)]
pub(crate) fn products<S: Simd>(
    s: S,
    a: (&[f32], usize, usize, usize),
    b: (&[f32], usize, usize),
    y: &mut [f32],
    y_stride: usize,
    add: bool,
) {
    let (rows, n) = (a.2, b.2);
    let mut column = 0;
    while column < n {
        let left = (n - column) / S::F32_LANES;
        let width = left.min(if roomy::<S>() { 4 } else { 2 });
        let mut row = 0;
        while row < rows {
            let place = (row, column);
            let height = if rows - row >= 4 { 4 } else { 1 };
            match (height, width) {
                (4, 1) => product_block::<S, 4, 1>(s, a, b, place, y, y_stride, add),
                (4, 2) => product_block::<S, 4, 2>(s, a, b, place, y, y_stride, add),
                (4, 3) => product_block::<S, 4, 3>(s, a, b, place, y, y_stride, add),
                (4, _) => product_block::<S, 4, 4>(s, a, b, place, y, y_stride, add),
                (_, 1) => product_block::<S, 1, 1>(s, a, b, place, y, y_stride, add),
                (_, 2) => product_block::<S, 1, 2>(s, a, b, place, y, y_stride, add),
                (_, 3) => product_block::<S, 1, 3>(s, a, b, place, y, y_stride, add),
                _ => product_block::<S, 1, 4>(s, a, b, place, y, y_stride, add),
            }
            row += height;
        }
        column += width * S::F32_LANES;
    }
}

#[inline(always)]
fn product_block<S: Simd, const C: usize, const N: usize>(
    s: S,
    (a, a_stride, _, k): (&[f32], usize, usize, usize),
    (b, b_stride, _): (&[f32], usize, usize),
    (row, column): (usize, usize),
    y: &mut [f32],
    y_stride: usize,
    add: bool,
) {
    let mut lines: [&[f32]; C] = [&[]; C];
    for c in 0..C {
        lines[c] = &a[(row + c) * a_stride..][..k];
    }
    let mut acc = [[s.splat_f32s(0.0); N]; C];
    if add {
        for c in 0..C {
            acc[c] = *vectors::<S, N>(y, (row + c) * y_stride + column);
        }
    }
    for j in 0..k {
        let b = vectors::<S, N>(b, j * b_stride + column);
        for c in 0..C {
            let a = s.splat_f32s(lines[c][j]);
            for n in 0..N {
                acc[c][n] = s.mul_add_e_f32s(b[n], a, acc[c][n]);
            }
        }
    }
    for c in 0..C {
        *vectors_mut::<S, N>(y, (row + c) * y_stride + column) = acc[c];
    }
}
