//! How close one image is to another.

/// How far two images of one size are apart, over red, green and blue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fidelity {
    squares: u64,
    total: u64,
    values: u64,
    /// The greatest difference of a value, in 255ths.
    pub most: u8,
}

impl Fidelity {
    /// Of two images as RGBA.
    pub fn of(a: &[u8], b: &[u8]) -> Self {
        let mut fidelity = Self::default();
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0) {
            for (a, b) in a[..3].iter().zip(&b[..3]) {
                let apart = a.abs_diff(*b);
                fidelity.squares += u64::from(apart).pow(2);
                fidelity.total += u64::from(apart);
                fidelity.values += 1;
                fidelity.most = fidelity.most.max(apart);
            }
        }
        fidelity
    }

    /// Mean difference, in 255ths.
    pub fn mean(&self) -> f64 {
        self.total as f64 / self.values.max(1) as f64
    }

    /// Peak signal-to-noise ratio in decibels; None if the images are equal.
    pub fn psnr(&self) -> Option<f64> {
        let mean = self.squares as f64 / self.values.max(1) as f64;
        (self.squares > 0).then(|| 10.0 * (255.0_f64.powi(2) / mean).log10())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_signal_to_noise_ratio_is_that_of_its_definition() {
        let a = [10, 20, 30, 255, 40, 50, 60, 255];
        let b = [10, 20, 33, 0, 44, 50, 60, 0];
        let fidelity = Fidelity::of(&a, &b);
        // Mean square (9 + 16) / 6; alpha does not count.
        let expected = 20.0 * (255.0 / (25.0_f64 / 6.0).sqrt()).log10();
        assert!((fidelity.psnr().unwrap() - expected).abs() < 1e-9);
        assert_eq!((fidelity.mean(), fidelity.most), (7.0 / 6.0, 4));
        assert_eq!(Fidelity::of(&a, &a).psnr(), None);
        // White against black.
        assert_eq!(Fidelity::of(&[255; 4], &[0; 4]).psnr(), Some(0.0));
    }
}
