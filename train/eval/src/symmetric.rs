//! Symmetric matrices in double precision: pivoted Cholesky factorisation and eigenvalues, for Fréchet distances. Matrices are
//! row-major. `docs/decisions/0005-evaluation.md` explains why no library is used.

use anyhow::{Context, Result};

/// Norms below this count as 0: their squares underflow.
const NEGLIGIBLE: f64 = 1e-150;
/// Maximum QL steps per eigenvalue; two or three are typical.
const MAX_STEPS: usize = 100;

/// Lᵀ of a positive semidefinite A = L·Lᵀ, by the Cholesky algorithm with diagonal pivoting. It stops when only rounding errors
/// remain, so the number of rows is the rank of A.
pub fn factor(a: &[f64], size: usize) -> Vec<Vec<f64>> {
    let mut left: Vec<f64> = (0..size).map(|i| a[i * size + i]).collect();
    let tolerance = size as f64 * f64::EPSILON * left.iter().copied().fold(0.0, f64::max);
    let mut rows: Vec<Vec<f64>> = Vec::new();
    while let Some(pivot) = (0..size).max_by(|&i, &j| left[i].total_cmp(&left[j])) {
        if left[pivot] <= tolerance || rows.len() == size {
            break;
        }
        let mut row = a[pivot * size..(pivot + 1) * size].to_vec();
        for earlier in &rows {
            add(&mut row, -earlier[pivot], earlier);
        }
        let length = left[pivot].sqrt();
        for (value, left) in row.iter_mut().zip(&mut left) {
            *value /= length;
            *left -= *value * *value;
        }
        left[pivot] = 0.0;
        rows.push(row);
    }
    rows
}

/// The eigenvalues of a symmetric matrix, unordered: Householder reflections to tridiagonal form, then implicit QL.
///
/// Absolute errors are within rounding of the largest eigenvalue.
///
/// # Errors
/// The algorithm does not converge, because the matrix contains NaN or infinite values.
pub fn eigenvalues(a: Vec<f64>, size: usize) -> Result<Vec<f64>> {
    let (diagonal, off_diagonal) = tridiagonal(a, size);
    ql(diagonal, off_diagonal).context(
        "the eigenvalues of a covariance matrix did not converge; the features are too large or not finite",
    )
}

/// The diagonal and the off-diagonal (padded with a 0) of a tridiagonal matrix with the same eigenvalues.
fn tridiagonal(mut a: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut off_diagonal) = (Vec::with_capacity(size), Vec::with_capacity(size));
    for k in 0..size {
        diagonal.push(a[k * size + k]);
        let mut v = a[k * size + k + 1..(k + 1) * size].to_vec();
        let norm = length(&v);
        if norm < NEGLIGIBLE {
            off_diagonal.push(0.0);
            continue;
        }
        // The reflection I − 2·v·vᵀ maps the rest of this row to its first entry; the sign avoids cancellation.
        let image = if v[0] > 0.0 { -norm } else { norm };
        off_diagonal.push(image);
        v[0] -= image;
        let norm = length(&v);
        v.iter_mut().for_each(|value| *value /= norm);
        let rest = |i: usize| (k + 1 + i) * size + k + 1..(k + 2 + i) * size;
        let mut w = vec![0.0; v.len()];
        for (i, &value) in v.iter().enumerate() {
            add(&mut w, value, &a[rest(i)]);
        }
        let along: f64 = w.iter().zip(&v).map(|(w, v)| w * v).sum();
        add(&mut w, -along, &v);
        for i in 0..v.len() {
            let row = &mut a[rest(i)];
            add(row, -2.0 * v[i], &w);
            add(row, -2.0 * w[i], &v);
        }
    }
    (diagonal, off_diagonal)
}

/// The eigenvalues of a tridiagonal matrix (EISPACK's `imtql1`), or `None` if they do not converge.
fn ql(mut d: Vec<f64>, mut e: Vec<f64>) -> Option<Vec<f64>> {
    let largest = d.iter().chain(&e).map(|value| value.abs()).fold(0.0, f64::max);
    let negligible = f64::EPSILON * largest;
    for l in 0..d.len() {
        let mut steps = 0;
        loop {
            let m = (l..d.len() - 1).find(|&m| e[m].abs() <= negligible).unwrap_or(d.len() - 1);
            if m == l {
                break;
            }
            steps += 1;
            if steps > MAX_STEPS {
                return None;
            }
            let shift = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (shift + shift.hypot(1.0).copysign(shift));
            let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (sine * e[i], cosine * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    split = true;
                    break;
                }
                (sine, cosine) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * sine + 2.0 * cosine * b;
                p = sine * r;
                d[i + 1] = g + p;
                g = cosine * r - b;
            }
            if !split {
                d[l] -= p;
                e[l] = g;
            }
            e[m] = 0.0;
        }
    }
    d.iter().all(|value| value.is_finite()).then_some(d)
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// `to += factor · v`.
fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    for (to, value) in to.iter_mut().zip(v) {
        *to += factor * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random matrix A·Aᵀ of this rank.
    fn gram(size: usize, rank: usize) -> Vec<f64> {
        let mut state = 7u64;
        let a: Vec<f64> = (0..size * rank)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
            })
            .collect();
        let entry = |i: usize, j: usize| (0..rank).map(|k| a[i * rank + k] * a[j * rank + k]).sum();
        (0..size * size).map(|at| entry(at / size, at % size)).collect()
    }

    #[test]
    fn a_cholesky_factor_reproduces_its_matrix_and_has_its_rank() {
        for (size, rank) in [(9, 9), (12, 4), (6, 1)] {
            let a = gram(size, rank);
            let rows = factor(&a, size);
            assert_eq!(rows.len(), rank);
            for (at, value) in a.iter().enumerate() {
                let back: f64 = rows.iter().map(|row| row[at / size] * row[at % size]).sum();
                assert!((back - value).abs() < 1e-13, "{size}, {rank}: {back}, {value}");
            }
        }
        assert!(factor(&[0.0; 9], 3).is_empty());
    }

    #[test]
    fn eigenvalues_are_those_of_known_matrices() {
        // The second difference of 5 points: 2 − 2·cos(kπ/6).
        let second = |i: usize, j: usize| [2.0, -1.0, 0.0, 0.0, 0.0][i.abs_diff(j)];
        let mut found = eigenvalues((0..25).map(|at| second(at / 5, at % 5)).collect(), 5).unwrap();
        found.sort_by(f64::total_cmp);
        for (k, value) in (1..).zip(found) {
            let expected = 2.0 - 2.0 * (f64::from(k) * std::f64::consts::PI / 6.0).cos();
            assert!((value - expected).abs() < 1e-14, "{value}, {expected}");
        }
        assert_eq!(eigenvalues(vec![0.0; 16], 4).unwrap(), [0.0; 4]);
        assert!(eigenvalues(vec![f64::NAN; 16], 4).is_err());
    }

    #[test]
    fn eigenvalues_of_rank_deficient_matrices_have_the_right_moments() {
        // For any matrix, Σλ is the trace, Σλ² the sum of all squares, and `size − rank` eigenvalues are 0.
        for (size, rank) in [(1, 1), (2, 1), (40, 40), (60, 25), (150, 3), (150, 149)] {
            let a = gram(size, rank);
            let (trace, squares): (f64, f64) =
                ((0..size).map(|i| a[i * size + i]).sum(), a.iter().map(|value| value * value).sum());
            let found = eigenvalues(a, size).unwrap();
            assert!((found.iter().sum::<f64>() - trace).abs() < 1e-12 * trace);
            assert!((found.iter().map(|value| value * value).sum::<f64>() - squares).abs() < 1e-12 * squares);
            let zero = found.iter().filter(|value| value.abs() < 1e-12 * trace).count();
            assert_eq!(zero, size - rank, "{size}, {rank}");
        }
    }
}
