//! Orthonormal columns by Householder reflections.
//!
//! On the host and in f64, one value after the other: every machine computes it of the same sums and must get the same bits, whatever
//! its device. Squares of any f32 and their sums fit f64, so nothing overflows or vanishes.

/// Added to the diagonal before: zero and dependent columns get a direction of their own (appendix E of the paper).
pub const EPSILON: f64 = 1e-6;

/// An orthonormal basis, `[rows, columns]`, of the columns of `p + ε·I`, `[rows, columns]`, in row-major order.
///
/// # Panics
/// If there are more columns than rows, or `p` has another size.
pub fn orthonormal(p: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert!(columns <= rows && p.len() == rows * columns, "{rows} × {columns}, {} values", p.len());
    // Column by column, so that all sums run over neighbours.
    let mut work = vec![0.0; rows * columns];
    for (row, values) in p.chunks_exact(columns.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            work[column * rows + row] = f64::from(*value) + if row == column { EPSILON } else { 0.0 };
        }
    }
    // Column k becomes the reflection that takes the rest of it to the diagonal: I − 2·v·vᵀ, with v of length 1 or 0.
    for k in 0..columns {
        let (done, rest) = work.split_at_mut((k + 1) * rows);
        let v = &mut done[k * rows + k..];
        let norm = dot(v, v).sqrt();
        v[0] += if v[0] < 0.0 { -norm } else { norm };
        let length = dot(v, v).sqrt();
        if length > 0.0 {
            v.iter_mut().for_each(|value| *value /= length);
        }
        for column in rest.chunks_exact_mut(rows) {
            reflect(v, &mut column[k..]);
        }
    }
    // The product of all reflections, times the first columns of I.
    let mut basis = vec![0.0; rows * columns];
    for (index, column) in basis.chunks_exact_mut(rows).enumerate() {
        column[index] = 1.0;
        for k in (0..=index).rev() {
            reflect(&work[k * rows + k..(k + 1) * rows], &mut column[k..]);
        }
    }
    let value = |index: usize| basis[index % columns * rows + index / columns] as f32;
    (0..rows * columns).map(value).collect()
}

/// x − 2·v·(vᵀ·x).
fn reflect(v: &[f64], x: &mut [f64]) {
    let twice = 2.0 * dot(v, x);
    for (x, v) in x.iter_mut().zip(v) {
        *x -= twice * v;
    }
}

/// Eight sums side by side, which the compiler keeps in vectors: always the same order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The greatest difference of PᵀP from I.
    fn error(p: &[f32], columns: usize) -> f64 {
        let product = |a: usize, b: usize| -> f64 {
            p.chunks_exact(columns).map(|row| f64::from(row[a]) * f64::from(row[b])).sum()
        };
        let pairs = (0..columns).flat_map(|a| (0..columns).map(move |b| (a, b)));
        pairs.map(|(a, b)| (product(a, b) - f64::from(u8::from(a == b))).abs()).fold(0.0, f64::max)
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn columns_are_orthonormal_whatever_they_are_made_of() {
        for (rows, columns) in [(1, 1), (5, 1), (4, 4), (20, 7), (67, 33)] {
            let random = numbers(rows * columns);
            let rank_one: Vec<f32> = (0..rows * columns).map(|i| random[i / columns]).collect();
            let zero_column: Vec<f32> =
                (0..rows * columns).map(|i| if i % columns == 0 { 0.0 } else { random[i] }).collect();
            let mixed: Vec<f32> =
                (0..rows * columns).map(|i| random[i] * 10f32.powi((i % 60) as i32 - 30)).collect();
            let times = |factor: f32| random.iter().map(|value| value * factor).collect::<Vec<_>>();
            let cases = [
                ("random", random.clone()),
                ("zero", vec![0.0; rows * columns]),
                ("of rank one", rank_one),
                ("with a zero column", zero_column),
                ("tiny", times(1e-38)),
                ("subnormal", times(1e-44)),
                ("huge", times(1e38)),
                ("all the greatest", vec![f32::MAX; rows * columns]),
                ("of all sizes", mixed),
                (
                    "minus epsilon",
                    (0..rows * columns)
                        .map(|i| if i / columns == i % columns { -EPSILON as f32 } else { 0.0 })
                        .collect(),
                ),
            ];
            for (name, p) in cases {
                let error = error(&orthonormal(&p, rows, columns), columns);
                assert!(error < 1e-6, "{rows} × {columns}, {name}: {error}");
            }
        }
    }

    #[test]
    fn the_basis_spans_the_columns_it_is_made_of() {
        let (rows, columns) = (12, 4);
        let p = numbers(rows * columns);
        let basis = orthonormal(&p, rows, columns);
        // B·Bᵀ·p = p + ε·I but for the ε.
        for column in 0..columns {
            let along = |b: usize| {
                (0..rows).map(|row| basis[row * columns + b] * p[row * columns + column]).sum::<f32>()
            };
            let parts: Vec<f32> = (0..columns).map(along).collect();
            for row in 0..rows {
                let again: f32 = (0..columns).map(|b| basis[row * columns + b] * parts[b]).sum();
                assert!((again - p[row * columns + column]).abs() < 1e-5);
            }
        }
    }
}
