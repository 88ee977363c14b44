//! The logit-Laplace likelihood of pixels, and its gradient (appendix A.3).

use pulp::{Simd, WithSimd};

use crate::grid::Grid;
use crate::simd::{exp, ln, load, vectors_mut};

/// −ln f(x | μ, b), to be dispatched. Returns its sum over pixels and channels.
pub struct Laplace<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The target, 3 channels in (0, 1).
    pub x: &'a [f32],
    /// μ and ln b, 6 channels, replaced by `scale` times their gradient.
    pub maps: &'a mut [f32],
    /// Weight of the sum in the loss.
    pub scale: f32,
}

impl WithSimd for Laplace<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f64 {
        let Self { grid, x, maps, scale } = self;
        let map = grid.channel();
        let (one, zero, two) = (s.splat_f32s(1.0), s.splat_f32s(0.0), s.splat_f32s(2f32.ln()));
        let (scale, minus) = (s.splat_f32s(scale), s.splat_f32s(-scale));
        let (mu, ln_b) = maps.split_at_mut(3 * map);
        let mut total = 0.0;
        for ((x, mu), ln_b) in
            x.chunks_exact(map).zip(mu.chunks_exact_mut(map)).zip(ln_b.chunks_exact_mut(map))
        {
            for phase in 0..4 {
                let at = phase * grid.plane + grid.front;
                let mut sum = zero;
                for tile in (0..grid.tiles).step_by(S::F32_LANES) {
                    let mask = load::<S>(grid.mask(phase), tile);
                    // ½ in the border keeps its logarithms finite.
                    let outside = s.mul_f32s(s.sub_f32s(one, mask), s.splat_f32s(0.5));
                    let x = s.add_f32s(load::<S>(x, at + tile), outside);
                    let (ln_x, ln_rest) = (ln(s, x), ln(s, s.sub_f32s(one, x)));
                    let mu = &mut vectors_mut::<S, 1>(mu, at + tile)[0];
                    let ln_b = &mut vectors_mut::<S, 1>(ln_b, at + tile)[0];
                    let away = s.sub_f32s(s.sub_f32s(ln_x, ln_rest), *mu);
                    let per_b = exp(s, s.sub_f32s(zero, *ln_b));
                    let ratio = s.mul_f32s(s.max_f32s(away, s.sub_f32s(zero, away)), per_b);
                    let normaliser = s.add_f32s(s.add_f32s(ln_x, ln_rest), two);
                    let value = s.add_f32s(s.add_f32s(ratio, *ln_b), normaliser);
                    sum = s.mul_add_e_f32s(value, mask, sum);
                    let sign = s.select_f32s(s.less_than_f32s(zero, away), minus, zero);
                    let sign = s.select_f32s(s.less_than_f32s(away, zero), scale, sign);
                    *mu = s.mul_f32s(s.mul_f32s(sign, per_b), mask);
                    *ln_b = s.mul_f32s(s.mul_f32s(s.sub_f32s(one, ratio), scale), mask);
                }
                total += f64::from(s.reduce_sum_f32s(sum));
            }
        }
        total
    }
}
