//! Health check of the dVAE's training: two ways in which it fails while its loss still falls.
//!
//! *Collapse of the codebook*: nearly all positions of all images become the same few tokens, so that the prior has nothing to
//! learn. *Drift of the bounds*: the decoder has learned to read relaxed codes, mixtures of many entries, and reconstructs little
//! from tokens (section 2.1: τ has to fall far enough for the two bounds to meet).

use crate::run_state::History;
use crate::stage::Warning;

/// Metric: how many codebook entries are used in effect.
pub const PERPLEXITY: &str = "codebook perplexity";
/// Metric: how much worse the reconstruction is from tokens than from relaxed codes, in nats per pixel value.
pub const GAP: &str = "relaxation gap";

/// Logged values in a row that must be bad: a single one may be due to its images.
const IN_A_ROW: usize = 3;
/// Perplexity below this is collapse in any codebook: not even two entries.
const LEAST: f64 = 2.0;
/// Once β has its final value, perplexity below this share of the run's best is collapse too …
const FALLEN: f64 = 0.05;
/// … and, once τ has its final value too, below this share of the entries that a batch could use.
const UNUSED: f64 = 0.02;
/// Once τ has its final value, a gap above this share of what reconstruction has gained since the first logged value is drift.
const APART: f64 = 0.1;

/// What a run's history is checked against.
#[derive(Clone, Copy, Debug)]
pub struct HealthCheck {
    /// Updates until β has its final value.
    pub beta_updates: u64,
    /// Updates until τ has its final value.
    pub tau_updates: u64,
    /// Codebook entries that a batch could use: all, or one for each of its positions.
    pub entries: usize,
}

impl HealthCheck {
    /// Warnings that follow from the logged values.
    pub fn warnings(&self, history: &History) -> Vec<Warning> {
        [self.collapse(history), self.drift(history)].into_iter().flatten().collect()
    }

    fn collapse(&self, history: &History) -> Option<Warning> {
        let logged = history.get(PERPLEXITY)?;
        let last = logged.last_chunk::<IN_A_ROW>()?;
        let best = logged.iter().map(|&(_, value)| value).fold(0.0, f64::max);
        let entries = self.entries as f64;
        let limit = |step| {
            let late = if step > self.tau_updates { UNUSED * entries } else { 0.0 };
            // A batch of few positions cannot use many.
            LEAST.max(FALLEN * best).max(late).min(entries / 2.0)
        };
        let bad = |&(step, value): &(u64, f64)| step > self.beta_updates && value < limit(step);
        let &(step, value) = logged.last()?;
        last.iter().all(bad).then(|| Warning {
            kind: "the codebook has collapsed",
            text: format!(
                "the codebook has collapsed: in effect {value:.1} of {entries} entries are used, where at least {:.1} were \
                 expected (the best so far was {best:.1}). The prior can learn little from these tokens. Start a new \
                 --run with a larger --beta from early on (--beta-updates 1), a smaller --learning-rate, or a slower --tau-updates",
                limit(step)
            ),
        })
    }

    fn drift(&self, history: &History) -> Option<Warning> {
        let (gaps, relaxed) = (history.get(GAP)?, history.get("reconstruction")?);
        let (&(_, first), &(_, now)) = (relaxed.first()?, relaxed.last()?);
        let gained = first - now;
        let bad = |&(step, gap): &(u64, f64)| step > self.tau_updates && gap > APART * gained.max(0.0);
        let &(_, gap) = gaps.last()?;
        gaps.last_chunk::<IN_A_ROW>()?.iter().all(bad).then(|| Warning {
            kind: "the bounds have drifted apart",
            text: format!(
                "the relaxed and the true evidence lower bound have drifted apart: from tokens, images are reconstructed \
                 {gap:.3} nats per pixel value worse than from the relaxed codes of training, which have gained {gained:.3} since \
                 the start; at most a tenth of that was expected. Start a new --run with a lower final --tau (the paper's is \
                 0.0625), or one that falls over more --tau-updates",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: HealthCheck = HealthCheck { beta_updates: 200, tau_updates: 600, entries: 1024 };

    fn kinds(name: &str, values: &[f64]) -> Vec<&'static str> {
        let every_100 = |values: &[f64]| (1..).map(|i| 100 * i).zip(values.iter().copied()).collect();
        let reconstruction = [1.0, 0.0, -1.0, -2.0, -3.0, -3.0, -3.0, -3.0, -3.0, -3.0];
        let history = History::from([
            ("reconstruction".to_owned(), every_100(&reconstruction[..values.len()])),
            (name.to_owned(), every_100(values)),
        ]);
        CHECK.warnings(&history).into_iter().map(|warning| warning.kind).collect()
    }

    #[test]
    fn collapse_is_three_low_values_in_a_row_after_the_ramp_of_beta() {
        let collapsed = |values: &[f64]| !kinds(PERPLEXITY, values).is_empty();
        assert!(collapsed(&[1.0, 1.0, 1.1, 1.0, 1.9]));
        assert!(!collapsed(&[1.0, 1.0, 1.1, 1.0]), "β is still rising at the first two");
        assert!(!collapsed(&[1.0, 1.0, 1.1, 2.1, 1.9]));
        assert!(collapsed(&[300.0, 200.0, 14.0, 13.0, 12.0]), "a twentieth of what it was");
        assert!(!collapsed(&[300.0, 200.0, 16.0, 16.0, 16.0]));
        let slow = [6.0, 8.0, 10.0, 12.0, 13.0, 14.0, 15.0, 15.0, 15.0];
        assert!(collapsed(&slow), "less than a fiftieth of the entries at the end");
        assert!(!collapsed(&slow[..8]), "while τ falls there is hope");
        assert!(!collapsed(&[6.0, 8.0, 10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 50.0]));
        assert!(!collapsed(&[f64::NAN; 9]));
    }

    #[test]
    fn drift_is_a_gap_of_a_tenth_of_what_was_gained_once_tau_has_fallen() {
        let apart = |values: &[f64]| !kinds(GAP, values).is_empty();
        assert!(apart(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.6, 0.7]));
        assert!(
            !apart(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.6, 0.7]),
            "4 nats gained: up to 0.4 is no drift"
        );
        assert!(!apart(&[9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]), "the first of three with τ still falling");
        assert!(!apart(&[-1.0; 9]));
        assert_eq!(kinds(GAP, &[2.0; 10]), ["the bounds have drifted apart"]);
    }
}
