//! How β, τ and the step size move over training (appendix A.2 and B.2).

use std::f64::consts::PI;

/// Half a cosine from `from` to `to` over `updates` updates, then constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    /// Value before the first update.
    pub from: f64,
    /// Value from update `updates` on.
    pub to: f64,
    /// Length in updates.
    pub updates: u64,
}

impl Cosine {
    /// The value for update `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.updates {
            return self.to;
        }
        let progress = step as f64 / self.updates as f64;
        self.to + (self.from - self.to) * 0.5 * (1.0 + (PI * progress).cos())
    }
}

/// Linear from 0 over `warmup` updates, then a cosine down to a tenth at `updates`.
///
/// The paper halves the step size at five plateaus of a very long run; a run of known length does as well with a cosine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// Greatest value.
    pub peak: f64,
    /// Updates until it is reached.
    pub warmup: u64,
    /// Updates in all.
    pub updates: u64,
}

impl Warmup {
    /// The value for update `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.updates.saturating_sub(self.warmup);
        Cosine { from: self.peak, to: self.peak / 10.0, updates: rest }.at(step - self.warmup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_has_exact_ends_and_middle() {
        let tau = Cosine { from: 1.0, to: 1.0 / 16.0, updates: 150_000 };
        assert_eq!(tau.at(0), 1.0);
        assert!((tau.at(75_000) - 17.0 / 32.0).abs() < 1e-12);
        assert_eq!(tau.at(150_000), 1.0 / 16.0);
        assert_eq!(tau.at(u64::MAX), 1.0 / 16.0);
        assert_eq!(Cosine { from: 1.0, to: 2.0, updates: 0 }.at(0), 2.0);
    }

    #[test]
    fn warmup_rises_then_falls_to_a_tenth() {
        let rate = Warmup { peak: 1.0, warmup: 10, updates: 110 };
        assert!((rate.at(0) - 0.1).abs() < 1e-12);
        assert_eq!(rate.at(10), 1.0);
        assert!((rate.at(110) - 0.1).abs() < 1e-12);
        assert_eq!(Warmup { peak: 1.0, warmup: 0, updates: 0 }.at(5), 0.1);
    }
}
