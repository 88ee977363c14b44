//! Between logits over the codebook and the decoder's input: Gumbel noise, the relaxation, its KL divergence, and the
//! gradient of both (section 2.1).
//!
//! A place is one pixel of the map of logits. Vectors run along places, so no sum over the codebook crosses a vector.

use pulp::{Simd, WithSimd};

use crate::grid::Grid;
use crate::simd::{exp, ln, load, vectors_mut};

/// Values that the relaxation keeps of all places for its gradient: greatest logit, Σ eˡ and KL divergence, `[3, 4 · tiles]`.
pub fn statistics(grid: &Grid) -> usize {
    3 * 4 * grid.tiles
}

/// The relaxation, to be dispatched: softmax((logits + noise)/τ) over the codebook. Returns the sum over places of
/// KL(softmax(logits) ‖ uniform).
pub struct Relax<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// Logits, a map of as many channels as the codebook has entries.
    pub logits: &'a [f32],
    /// Gumbel noise, replaced by the relaxed codes.
    pub z: &'a mut [f32],
    /// The temperature τ.
    pub tau: f32,
    /// See [`statistics`].
    pub statistics: &'a mut [f32],
    /// The most likely entry at each place, `[4 · tiles]`.
    pub best: &'a mut [f32],
}

impl WithSimd for Relax<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f64 {
        let Self { grid, logits, z, tau, statistics, best } = self;
        let (map, tiles) = (grid.channel(), grid.tiles);
        let ln_entries = s.splat_f32s(((logits.len() / map) as f32).ln());
        let scale = s.splat_f32s(1.0 / tau);
        let mut total = 0.0;
        for phase in 0..4 {
            for tile in (0..tiles).step_by(S::F32_LANES) {
                let at = phase * grid.plane + grid.front + tile;
                let mask = load::<S>(grid.mask(phase), tile);
                let lowest = s.splat_f32s(f32::MIN);
                let (mut most, mut most_noisy) = (lowest, lowest);
                let (mut index, mut which) = (s.splat_f32s(0.0), s.splat_f32s(0.0));
                for (logits, z) in logits.chunks_exact(map).zip(z.chunks_exact(map)) {
                    let (l, noise) = (load::<S>(logits, at), load::<S>(z, at));
                    which = s.select_f32s(s.less_than_f32s(most, l), index, which);
                    index = s.add_f32s(index, s.splat_f32s(1.0));
                    most = s.max_f32s(most, l);
                    most_noisy = s.max_f32s(most_noisy, s.add_f32s(l, noise));
                }
                let (mut sum, mut weighted, mut sum_noisy) =
                    (s.splat_f32s(0.0), s.splat_f32s(0.0), s.splat_f32s(0.0));
                for (logits, z) in logits.chunks_exact(map).zip(z.chunks_exact_mut(map)) {
                    let l = load::<S>(logits, at);
                    let z = &mut vectors_mut::<S, 1>(z, at)[0];
                    let away = s.sub_f32s(l, most);
                    let e = exp(s, away);
                    sum = s.add_f32s(sum, e);
                    weighted = s.mul_add_e_f32s(e, away, weighted);
                    let noisy = s.mul_f32s(s.sub_f32s(s.add_f32s(l, *z), most_noisy), scale);
                    *z = exp(s, noisy);
                    sum_noisy = s.add_f32s(sum_noisy, *z);
                }
                let share = s.div_f32s(mask, sum_noisy);
                for z in z.chunks_exact_mut(map) {
                    let z = &mut vectors_mut::<S, 1>(z, at)[0];
                    *z = s.mul_f32s(*z, share);
                }
                let kl = s.add_f32s(s.sub_f32s(s.div_f32s(weighted, sum), ln(s, sum)), ln_entries);
                total += f64::from(s.reduce_sum_f32s(s.mul_f32s(kl, mask)));
                for (i, value) in [most, sum, kl].into_iter().enumerate() {
                    vectors_mut::<S, 1>(statistics, (i * 4 + phase) * tiles + tile)[0] = value;
                }
                vectors_mut::<S, 1>(best, phase * tiles + tile)[0] = which;
            }
        }
        total
    }
}

/// The most likely entry at each place, to be dispatched.
pub struct Best<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// Logits, a map of as many channels as the codebook has entries.
    pub logits: &'a [f32],
    /// The entries' numbers, `[4 · tiles]`.
    pub best: &'a mut [f32],
}

impl WithSimd for Best<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { grid, logits, best } = self;
        for phase in 0..4 {
            for tile in (0..grid.tiles).step_by(S::F32_LANES) {
                let at = phase * grid.plane + grid.front + tile;
                let (mut most, mut which, mut index) =
                    (s.splat_f32s(f32::MIN), s.splat_f32s(0.0), s.splat_f32s(0.0));
                for logits in logits.chunks_exact(grid.channel()) {
                    let l = load::<S>(logits, at);
                    which = s.select_f32s(s.less_than_f32s(most, l), index, which);
                    index = s.add_f32s(index, s.splat_f32s(1.0));
                    most = s.max_f32s(most, l);
                }
                vectors_mut::<S, 1>(best, phase * grid.tiles + tile)[0] = which;
            }
        }
    }
}

/// The gradient of the logits, to be dispatched: that of the relaxed codes, and `kl` times that of the KL divergence.
pub struct RelaxGradient<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The logits.
    pub logits: &'a [f32],
    /// The relaxed codes.
    pub z: &'a [f32],
    /// What [`Relax`] kept.
    pub statistics: &'a [f32],
    /// The temperature τ.
    pub tau: f32,
    /// Weight of the sum of KL divergences in the loss.
    pub kl: f32,
    /// The gradient of the relaxed codes, replaced by that of the logits.
    pub dz: &'a mut [f32],
}

impl WithSimd for RelaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { grid, logits, z, statistics, tau, kl: weight, dz } = self;
        let (map, tiles) = (grid.channel(), grid.tiles);
        let ln_entries = s.splat_f32s(((logits.len() / map) as f32).ln());
        let scale = s.splat_f32s(1.0 / tau);
        for phase in 0..4 {
            for tile in (0..tiles).step_by(S::F32_LANES) {
                let at = phase * grid.plane + grid.front + tile;
                let mut mean = s.splat_f32s(0.0);
                for (z, dz) in z.chunks_exact(map).zip(dz.chunks_exact(map)) {
                    mean = s.mul_add_e_f32s(load::<S>(z, at), load::<S>(dz, at), mean);
                }
                let mut kept = [mean; 3];
                for i in 0..3 {
                    kept[i] = load::<S>(statistics, (i * 4 + phase) * tiles + tile);
                }
                let [most, sum, kl] = kept;
                // ln q + ln V − KL = (l − most) + offset
                let offset = s.sub_f32s(s.sub_f32s(ln_entries, ln(s, sum)), kl);
                let mask = load::<S>(grid.mask(phase), tile);
                let share = s.mul_f32s(s.div_f32s(mask, sum), s.splat_f32s(weight));
                for ((logits, z), dz) in
                    logits.chunks_exact(map).zip(z.chunks_exact(map)).zip(dz.chunks_exact_mut(map))
                {
                    let dz = &mut vectors_mut::<S, 1>(dz, at)[0];
                    let away = s.sub_f32s(load::<S>(logits, at), most);
                    let q = s.mul_f32s(exp(s, away), share);
                    let relaxed = s.mul_f32s(s.mul_f32s(load::<S>(z, at), scale), s.sub_f32s(*dz, mean));
                    *dz = s.mul_add_e_f32s(q, s.add_f32s(away, offset), relaxed);
                }
            }
        }
    }
}

/// Gumbel noise, to be dispatched: −ln(−ln u), u uniform on (0, 1), for each entry and place.
///
/// A value depends on key, place and entry alone (Philox 4×32-10, Salmon et al., 2011), not on the CPU's vectors.
pub struct Noise<'a> {
    /// The layout.
    pub grid: &'a Grid,
    /// The key.
    pub key: u64,
    /// The noise.
    pub noise: &'a mut [f32],
}

impl WithSimd for Noise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { grid, key, noise } = self;
        let key = [key as u32, (key >> 32) as u32];
        let places: Vec<u32> = (0..grid.tiles as u32).collect();
        let (places, _) = S::as_simd_u32s(&places);
        let zero = s.splat_u32s(0);
        for (entry, noise) in noise.chunks_exact_mut(grid.channel()).enumerate() {
            for (i, place) in places.iter().enumerate() {
                let random = philox(s, [*place, s.splat_u32s(entry as u32), zero, zero], key);
                for phase in 0..4 {
                    // 23 bits and a half: neither 0 nor 1 can come.
                    let bits = s.wrapping_dyn_shr_u32s(random[phase], s.splat_u32s(9));
                    let one = s.transmute_f32s_u32s(s.or_u32s(bits, s.splat_u32s(0x3f80_0000)));
                    let u = s.sub_f32s(one, s.splat_f32s(1.0 - 1.0 / 16_777_216.0));
                    let inner = s.sub_f32s(s.splat_f32s(0.0), ln(s, u));
                    let at = phase * grid.plane + grid.front + i * S::F32_LANES;
                    vectors_mut::<S, 1>(noise, at)[0] = s.sub_f32s(s.splat_f32s(0.0), ln(s, inner));
                }
            }
        }
    }
}

/// Four random numbers of a counter and a key.
#[inline(always)]
fn philox<S: Simd>(s: S, counter: [S::u32s; 4], key: [u32; 2]) -> [S::u32s; 4] {
    let mut c = counter;
    let mut key = key;
    for _ in 0..10 {
        let (low_0, high_0) = s.widening_mul_u32s(c[0], s.splat_u32s(0xd251_1f53));
        let (low_1, high_1) = s.widening_mul_u32s(c[2], s.splat_u32s(0xcd9e_8d57));
        c = [
            s.xor_u32s(s.xor_u32s(high_1, c[1]), s.splat_u32s(key[0])),
            low_1,
            s.xor_u32s(s.xor_u32s(high_0, c[3]), s.splat_u32s(key[1])),
            low_0,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    c
}
