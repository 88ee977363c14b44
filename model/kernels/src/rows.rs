//! What a transformer does row by row: LayerNorm, GELU, softmax and cross-entropy, with their gradients.
//!
//! A row is a whole number of vectors; rows follow each other.

use pulp::{Simd, WithSimd};

use crate::simd::exp;

/// ε of LayerNorm.
pub(crate) const EPSILON: f32 = 1e-5;

/// Vectors of a row.
#[inline(always)]
fn row_of<S: Simd>(x: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(x).0
}

#[inline(always)]
fn row_of_mut<S: Simd>(x: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(x).0
}

/// LayerNorm, to be dispatched: (x − mean)/deviation · γ + β.
pub struct Norm<'a> {
    /// The rows, `[rows, d]`.
    pub x: &'a [f32],
    /// γ, `[d]`.
    pub gamma: &'a [f32],
    /// β, `[d]`.
    pub beta: &'a [f32],
    /// Mean and 1/deviation of each row.
    pub statistics: &'a mut [[f32; 2]],
    /// The result, `[rows, d]`.
    pub y: &'a mut [f32],
}

impl WithSimd for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, gamma, beta, statistics, y } = self;
        let d = gamma.len();
        let (gamma, beta) = (row_of::<S>(gamma), row_of::<S>(beta));
        for ((x, y), statistics) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(statistics) {
            let (x, y) = (row_of::<S>(x), row_of_mut::<S>(y));
            let mut sum = s.splat_f32s(0.0);
            for x in x {
                sum = s.add_f32s(sum, *x);
            }
            let mean = s.reduce_sum_f32s(sum) / d as f32;
            let centre = s.splat_f32s(mean);
            let mut squares = s.splat_f32s(0.0);
            for x in x {
                let away = s.sub_f32s(*x, centre);
                squares = s.mul_add_e_f32s(away, away, squares);
            }
            let scale = 1.0 / (s.reduce_sum_f32s(squares) / d as f32 + EPSILON).sqrt();
            *statistics = [mean, scale];
            let scale = s.splat_f32s(scale);
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = s.mul_add_e_f32s(s.mul_f32s(s.sub_f32s(*x, centre), scale), *gamma, *beta);
            }
        }
    }
}

/// The gradient of [`Norm`], to be dispatched.
pub struct NormGradient<'a> {
    /// The rows, `[rows, d]`.
    pub x: &'a [f32],
    /// γ, `[d]`.
    pub gamma: &'a [f32],
    /// What [`Norm`] kept.
    pub statistics: &'a [[f32; 2]],
    /// The gradient of the result, `[rows, d]`.
    pub dy: &'a [f32],
    /// The rows' gradient, `[rows, d]`: added to.
    pub dx: &'a mut [f32],
    /// γ's gradient, `[d]`: added to.
    pub d_gamma: &'a mut [f32],
    /// β's gradient, `[d]`: added to.
    pub d_beta: &'a mut [f32],
}

impl WithSimd for NormGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, gamma, statistics, dy, dx, d_gamma, d_beta } = self;
        let d = gamma.len();
        let gamma = row_of::<S>(gamma);
        let (d_gamma, d_beta) = (row_of_mut::<S>(d_gamma), row_of_mut::<S>(d_beta));
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((x, dy), dx), [mean, scale]) in rows.zip(statistics) {
            let (x, dy, dx) = (row_of::<S>(x), row_of::<S>(dy), row_of_mut::<S>(dx));
            let (centre, scale) = (s.splat_f32s(*mean), s.splat_f32s(*scale));
            let (mut sum, mut along) = (s.splat_f32s(0.0), s.splat_f32s(0.0));
            for ((((x, dy), gamma), d_gamma), d_beta) in
                x.iter().zip(dy).zip(gamma).zip(&mut *d_gamma).zip(&mut *d_beta)
            {
                let normal = s.mul_f32s(s.sub_f32s(*x, centre), scale);
                *d_gamma = s.mul_add_e_f32s(*dy, normal, *d_gamma);
                *d_beta = s.add_f32s(*d_beta, *dy);
                let g = s.mul_f32s(*dy, *gamma);
                sum = s.add_f32s(sum, g);
                along = s.mul_add_e_f32s(g, normal, along);
            }
            let sum = s.splat_f32s(-s.reduce_sum_f32s(sum) / d as f32);
            let along = s.splat_f32s(-s.reduce_sum_f32s(along) / d as f32);
            for (((x, dy), gamma), dx) in x.iter().zip(dy).zip(gamma).zip(dx) {
                let normal = s.mul_f32s(s.sub_f32s(*x, centre), scale);
                let g = s.mul_add_e_f32s(normal, along, s.add_f32s(s.mul_f32s(*dy, *gamma), sum));
                *dx = s.mul_add_e_f32s(g, scale, *dx);
            }
        }
    }
}

/// Φ(x), the normal distribution's share below x, to about 1e-7, and its density.
#[inline(always)]
fn normal<S: Simd>(s: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let zero = s.splat_f32s(0.0);
    let density =
        s.mul_f32s(exp(s, s.mul_f32s(s.mul_f32s(x, x), s.splat_f32s(-0.5))), s.splat_f32s(0.398_942_3));
    // erfc of |x|/√2 by the polynomial of Numerical Recipes (section 6.2, relative error 1.2e-7), halved, is the share above |x|.
    let z = s.mul_f32s(s.max_f32s(x, s.sub_f32s(zero, x)), s.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div_f32s(s.splat_f32s(1.0), s.mul_add_e_f32s(z, s.splat_f32s(0.5), s.splat_f32s(1.0)));
    let mut p = s.splat_f32s(0.170_872_77);
    for c in [
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = s.mul_add_e_f32s(p, t, s.splat_f32s(c));
    }
    let erfc = s.mul_f32s(t, exp(s, s.sub_f32s(p, s.mul_f32s(z, z))));
    let above = s.mul_f32s(erfc, s.splat_f32s(0.5));
    let below = s.sub_f32s(s.splat_f32s(1.0), above);
    (s.select_f32s(s.less_than_f32s(x, zero), above, below), density)
}

/// GELU, to be dispatched: x·Φ(x).
pub struct Gelu<'a> {
    /// The input.
    pub x: &'a [f32],
    /// The result.
    pub y: &'a mut [f32],
}

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for (x, y) in row_of::<S>(self.x).iter().zip(row_of_mut::<S>(self.y)) {
            *y = s.mul_f32s(*x, normal(s, *x).0);
        }
    }
}

/// GELU in place, to be dispatched.
pub struct GeluInPlace<'a> {
    /// The input, replaced by the result.
    pub x: &'a mut [f32],
}

impl WithSimd for GeluInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for x in row_of_mut::<S>(self.x) {
            *x = s.mul_f32s(*x, normal(s, *x).0);
        }
    }
}

/// GELU again, and its gradient, to be dispatched.
pub struct GeluGradient<'a> {
    /// The input, replaced by the result.
    pub x: &'a mut [f32],
    /// The gradient of the result, replaced by that of the input.
    pub dy: &'a mut [f32],
}

impl WithSimd for GeluGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        for (x, dy) in row_of_mut::<S>(self.x).iter_mut().zip(row_of_mut::<S>(self.dy)) {
            let (share, density) = normal(s, *x);
            *dy = s.mul_f32s(*dy, s.mul_add_e_f32s(*x, density, share));
            *x = s.mul_f32s(*x, share);
        }
    }
}

/// Cross-entropy of one row of logits, to be dispatched: −ln softmax(logits)\[target\]. The logits become `weight` times its
/// gradient; those from `classes` on, padding, become 0.
pub struct CrossEntropy<'a> {
    /// The logits.
    pub logits: &'a mut [f32],
    /// How many there are.
    pub classes: usize,
    /// The class that is right.
    pub target: usize,
    /// Weight of the row in the loss.
    pub weight: f32,
}

impl WithSimd for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f32 {
        let Self { logits, classes, target, weight } = self;
        logits[classes..].fill(f32::MIN);
        let wanted = logits[target];
        let row = row_of_mut::<S>(logits);
        let mut most = s.splat_f32s(f32::MIN);
        for l in &*row {
            most = s.max_f32s(most, *l);
        }
        let most = s.reduce_max_f32s(most);
        let shift = s.splat_f32s(most);
        let mut sum = s.splat_f32s(0.0);
        for l in &mut *row {
            *l = exp(s, s.sub_f32s(*l, shift));
            sum = s.add_f32s(sum, *l);
        }
        let sum = s.reduce_sum_f32s(sum);
        let share = s.splat_f32s(weight / sum);
        for l in &mut *row {
            *l = s.mul_f32s(*l, share);
        }
        logits[classes..].fill(0.0);
        logits[target] -= weight;
        sum.ln() + most - wanted
    }
}

/// Sums of columns, to be dispatched: added to `sum`.
pub struct Columns<'a> {
    /// The rows, `[rows, n]`.
    pub x: &'a [f32],
    /// The sums, `[n]`.
    pub sum: &'a mut [f32],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let n = self.sum.len();
        let sum = row_of_mut::<S>(self.sum);
        for x in self.x.chunks_exact(n) {
            for (sum, x) in sum.iter_mut().zip(row_of::<S>(x)) {
                *sum = s.add_f32s(*sum, *x);
            }
        }
    }
}

/// The sum of all values, to be dispatched. It is as fast as memory is read.
pub struct Sum<'a> {
    /// The values, whole units.
    pub x: &'a [f32],
}

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat_f32s(0.0); 4];
        let (groups, rest) = row_of::<S>(self.x).as_chunks::<4>();
        for group in groups {
            for (sum, x) in sums.iter_mut().zip(group) {
                *sum = s.add_f32s(*sum, *x);
            }
        }
        for x in rest {
            sums[0] = s.add_f32s(sums[0], *x);
        }
        s.reduce_sum_f32s(s.add_f32s(s.add_f32s(sums[0], sums[1]), s.add_f32s(sums[2], sums[3])))
    }
}
