//! Gradient scales of resblocks (appendix D of the paper): factors that keep the gradients of 16-bit resblocks within range.
//!
//! ```text
//! let finite = …;                        // for each resblock, whether the gradients of its parameters are finite on all ranks
//! if scales.record(&finite) { /* update the parameters */ }
//! ```

use serde::{Deserialize, Serialize};

/// Where a scale starts, for each replica of the model.
const START: f64 = 8_192.0;
/// The least a scale can be, for each replica.
const LEAST: f64 = 128.0;
/// The greatest a scale can be, for each replica.
const GREATEST: f64 = 16_777_216.0;
/// Updates with finite gradients that double a scale.
const DOUBLES_IN: f64 = 1000.0;
/// Updates in which a scale is divided at most once.
const WINDOW: u64 = 125;

/// The scales of all resblocks, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientScales {
    /// Replicas of the model, each of which computes a part of the batch.
    replicas: u64,
    /// Updates recorded.
    updates: u64,
    scales: Vec<Scale>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    value: f64,
    /// The update that divided it last.
    divided: Option<u64>,
}

impl GradientScales {
    /// Updates in which a scale can fall to a sixteenth.
    pub const UPDATES_TO_FALL: u64 = 8 * WINDOW;

    /// The scales of a number of resblocks at the start of a training on `replicas` replicas.
    pub fn new(resblocks: usize, replicas: u64) -> Self {
        let scale = Scale { value: START * replicas as f64, divided: None };
        Self { replicas, updates: 0, scales: vec![scale; resblocks] }
    }

    /// The same scales for another number of replicas, which each compute another part of the batch.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u64) -> Self {
        let factor = replicas as f64 / self.replicas as f64;
        for scale in &mut self.scales {
            scale.value *= factor;
        }
        self.replicas = replicas;
        self
    }

    /// The scale of each resblock.
    pub fn values(&self) -> Vec<f32> {
        self.scales.iter().map(|scale| scale.value as f32).collect()
    }

    /// Records an update: for each resblock, whether the gradients of its parameters were all finite. Returns whether to apply the
    /// update; one with a gradient that is not finite is skipped.
    ///
    /// The scale of a resblock with finite gradients grows by 2^(1/1000), also where another resblock's are not; otherwise it is
    /// divided by √2, unless that happened within the last 125 updates. Then it stays.
    ///
    /// # Panics
    /// If there is not one value for each resblock.
    pub fn record(&mut self, finite: &[bool]) -> bool {
        assert_eq!(finite.len(), self.scales.len(), "one value for each resblock");
        let (least, greatest) = (LEAST * self.replicas as f64, GREATEST * self.replicas as f64);
        for (scale, finite) in self.scales.iter_mut().zip(finite) {
            if *finite {
                scale.value *= (1.0 / DOUBLES_IN).exp2();
            } else if scale.divided.is_none_or(|update| self.updates >= update + WINDOW) {
                scale.value /= std::f64::consts::SQRT_2;
                scale.divided = Some(self.updates);
            }
            scale.value = scale.value.clamp(least, greatest);
        }
        self.updates += 1;
        finite.iter().all(|finite| *finite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(got: f32, expected: f64) {
        assert!((f64::from(got) / expected - 1.0).abs() < 1e-6, "{got}, expected {expected}");
    }

    #[test]
    fn start_at_2_to_the_13_for_each_replica() {
        assert_eq!(GradientScales::new(2, 1).values(), [8192.0; 2]);
        assert_eq!(GradientScales::new(1, 128).values(), [128.0 * 8192.0]);
    }

    #[test]
    fn fall_to_a_sixteenth_in_the_updates_that_a_run_waits_for() {
        let mut scales = GradientScales::new(1, 1);
        for _ in 0..GradientScales::UPDATES_TO_FALL {
            assert!(!scales.record(&[false]));
        }
        assert_close(scales.values()[0], 8192.0 / 16.0);
    }

    #[test]
    fn double_in_1000_finite_updates_which_are_applied() {
        let mut scales = GradientScales::new(1, 4);
        for _ in 0..1000 {
            assert!(scales.record(&[true]));
        }
        assert_close(scales.values()[0], 2.0 * 4.0 * 8192.0);
    }

    #[test]
    fn are_divided_alone_where_a_gradient_is_not_finite_and_the_update_is_skipped() {
        let mut scales = GradientScales::new(3, 1);
        assert!(!scales.record(&[true, false, true]));
        let grown = 8192.0 * 2f64.powf(0.001);
        for (value, expected) in scales.values().into_iter().zip([grown, 8192.0 / 2f64.sqrt(), grown]) {
            assert_close(value, expected);
        }
        assert!(scales.record(&[true; 3]), "the next update is applied again");
    }

    #[test]
    fn are_divided_at_most_once_in_125_updates() {
        let mut scales = GradientScales::new(1, 1);
        let divided = 8192.0 / 2f64.sqrt();
        for update in 0..125 {
            assert!(!scales.record(&[false]));
            assert_close(scales.values()[0], divided);
            assert_eq!(scales.scales[0].divided, Some(0), "update {update}");
        }
        scales.record(&[false]);
        assert_close(scales.values()[0], divided / 2f64.sqrt());
        assert_eq!(scales.scales[0].divided, Some(125));
    }

    #[test]
    fn grow_within_the_125_updates_after_a_division() {
        let mut scales = GradientScales::new(1, 1);
        scales.record(&[false]);
        scales.record(&[true]);
        assert_close(scales.values()[0], 8192.0 / 2f64.sqrt() * 2f64.powf(0.001));
    }

    #[test]
    fn stay_between_2_to_the_7_and_2_to_the_24_for_each_replica() {
        let mut scales = GradientScales::new(1, 2);
        for _ in 0..20_000 {
            scales.record(&[true]);
        }
        assert_eq!(scales.values(), [2.0 * 2f32.powi(24)]);
        for _ in 0..125 * 60 {
            scales.record(&[false]);
        }
        assert_eq!(scales.values(), [2.0 * 2f32.powi(7)]);
    }

    #[test]
    fn go_on_as_they_were_after_saving_and_loading() {
        let mut scales = GradientScales::new(2, 3);
        let finite = |update: u64| [!update.is_multiple_of(7), !update.is_multiple_of(50)];
        for update in 0..300 {
            scales.record(&finite(update));
        }
        let text = serde_json::to_string(&scales).unwrap();
        let mut loaded: GradientScales = serde_json::from_str(&text).unwrap();
        assert_eq!(loaded, scales);
        for update in 300..600 {
            assert_eq!(loaded.record(&finite(update)), scales.record(&finite(update)));
        }
        assert_eq!(loaded.values(), scales.values());
    }
}
