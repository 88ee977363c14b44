//! Counter-based random numbers: Philox 4×32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011).
//!
//! Architecture invariant: the token at position p of sample s is a function of (weights, text ids, settings, seed + s, p)
//! alone. A counter-based generator has no state, so batch size, other jobs, restarts and workers change nothing.

/// A number uniform on `[0, 1)` with 53 random bits, for position `position` of sample `sample` under `seed`.
pub fn uniform(seed: u64, sample: u64, position: u64) -> f64 {
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let ([k0, k1], [c0, c1], [c2, c3]) = (halves(seed), halves(position), halves(sample));
    let [x0, x1, _, _] = philox([c0, c1, c2, c3], [k0, k1]);
    let bits = (u64::from(x0) << 32 | u64::from(x1)) >> 11;
    bits as f64 * 2f64.powi(-53)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = 0xD251_1F53_u64 * u64::from(counter[0]);
        let b = 0xCD9E_8D57_u64 * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // Test vectors of the authors' library Random123.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniform_has_the_moments_of_a_uniform() {
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|i| uniform(7, i % 9, i / 9)).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002, "{mean} {variance}");
        assert!(values.iter().all(|x| (0.0..1.0).contains(x)));
    }
}
