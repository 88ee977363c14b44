//! Schedules of β, τ and the learning rate (appendices A.2 and B.2).

use std::f64::consts::PI;

/// A half cosine from `from` to `to` over `updates` updates, then constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineSchedule {
    /// Value before the first update.
    pub from: f64,
    /// Value from update `updates` on.
    pub to: f64,
    /// Length in updates.
    pub updates: u64,
}

impl CosineSchedule {
    /// The value for update `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step >= self.updates {
            return self.to;
        }
        // In this form both ends are exact.
        let cosine = (PI * step as f64 / self.updates as f64).cos();
        self.from * (0.5 + 0.5 * cosine) + self.to * (0.5 - 0.5 * cosine)
    }
}

/// Linear warm-up from 0 over `warmup` updates, then a cosine down to a tenth of the peak at `updates`.
///
/// The paper halves the learning rate at five plateaus of a very long run. For a run of known length a cosine works as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmupCosine {
    /// The highest value.
    pub peak: f64,
    /// Updates until the peak.
    pub warmup: u64,
    /// Total number of updates.
    pub updates: u64,
}

impl WarmupCosine {
    /// The value for update `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.updates.saturating_sub(self.warmup);
        CosineSchedule { from: self.peak, to: self.peak / 10.0, updates: rest }.at(step - self.warmup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_cosines_have_exact_ends_and_pass_through_their_quarters() {
        for (from, to, updates) in [(0.0, 6.6, 5_000), (1.0, 1.0 / 16.0, 150_000), (1e-4, 1.25e-6, 1_200_000)]
        {
            let cosine = CosineSchedule { from, to, updates };
            assert_eq!(cosine.at(0), from);
            for end in [updates, updates + 1, 3_000_000, u64::MAX] {
                assert_eq!(cosine.at(end), to);
            }
            // cos π/4 = 1/√2, cos π/2 = 0: values that are known without a cosine.
            let share = |step| (cosine.at(step) - from) / (to - from);
            let quarter = 0.5 - 0.5 * std::f64::consts::FRAC_1_SQRT_2;
            for (step, expected) in
                [(updates / 4, quarter), (updates / 2, 0.5), (updates / 4 * 3, 1.0 - quarter)]
            {
                assert!((share(step) - expected).abs() < 1e-12, "{from} to {to} at {step}");
            }
            assert!(share(1) > 0.0 && share(updates - 1) < 1.0);
        }
        assert_eq!(CosineSchedule { from: 1.0, to: 2.0, updates: 0 }.at(0), 2.0);
    }

    #[test]
    fn warmup_rises_then_falls_to_a_tenth() {
        let rate = WarmupCosine { peak: 1.0, warmup: 10, updates: 110 };
        assert!((rate.at(0) - 0.1).abs() < 1e-12);
        assert_eq!(rate.at(10), 1.0);
        assert!((rate.at(110) - 0.1).abs() < 1e-12);
        assert_eq!(WarmupCosine { peak: 1.0, warmup: 0, updates: 0 }.at(5), 0.1);
    }
}
