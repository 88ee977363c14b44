//! Health checks of dVAE training, for two failures that the loss does not show.
//!
//! *Codebook collapse*: nearly all positions of all images become the same few tokens, so the prior has nothing to learn. *Diverging
//! bounds*: the decoder relies on relaxed codes, mixtures of many entries, and reconstructs badly from tokens (section 2.1: τ must
//! become low enough for the relaxed bound to be tight).

use crate::run_state::History;
use crate::stage::Warning;

/// Metric: the effective number of codebook entries in use.
pub const PERPLEXITY: &str = "codebook perplexity";
/// Metric: the reconstruction loss from tokens minus that from relaxed codes, in nats per pixel value.
pub const GAP: &str = "relaxation gap";

/// Number of bad logged values in a row that cause a warning. A single one may be due to its images.
const IN_A_ROW: usize = 3;
/// A perplexity below this is collapse for any codebook: fewer than two entries are in use.
const LEAST: f64 = 2.0;
/// Once β has its final value, a perplexity below this share of the run's best is collapse too …
const FALLEN: f64 = 0.05;
/// … and, once τ has its final value too, below this share of the entries that a batch could use.
const UNUSED: f64 = 0.02;
/// Once τ has its final value, the bounds diverge if the gap exceeds this share of the improvement in reconstruction since the first
/// logged value.
const APART: f64 = 0.1;

/// The schedule and size of a run, which its history is checked against.
#[derive(Clone, Copy, Debug)]
pub struct HealthCheck {
    /// Updates until β has its final value.
    pub beta_updates: u64,
    /// Updates until τ has its final value.
    pub tau_updates: u64,
    /// Number of codebook entries that a batch could use: all of them, or one per position if there are fewer positions.
    pub entries: usize,
}

impl HealthCheck {
    /// The warnings for a history of logged values.
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
            // A batch with few positions cannot use many entries.
            LEAST.max(FALLEN * best).max(late).min(entries / 2.0)
        };
        let bad = |&(step, value): &(u64, f64)| step > self.beta_updates && value < limit(step);
        let &(step, value) = logged.last()?;
        last.iter().all(bad).then(|| Warning {
            kind: "the codebook has collapsed",
            text: format!(
                "the codebook has collapsed: effectively {value:.1} of {entries} entries are in use, where at least {:.1} were \
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
                "the relaxed and the true evidence lower bound have drifted apart: reconstruction from tokens is {gap:.3} nats per \
                pixel value worse than from the relaxed codes of training, which has improved by {gained:.3} since the start; at \
                most a tenth of that was expected. Start a new --run with a lower final --tau (the paper's is \
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
        assert!(collapsed(&[300.0, 200.0, 14.0, 13.0, 12.0]), "below a twentieth of the best");
        assert!(!collapsed(&[300.0, 200.0, 16.0, 16.0, 16.0]));
        let slow = [6.0, 8.0, 10.0, 12.0, 13.0, 14.0, 15.0, 15.0, 15.0];
        assert!(collapsed(&slow), "less than a fiftieth of the entries at the end");
        assert!(!collapsed(&slow[..8]), "τ is still falling");
        assert!(!collapsed(&[6.0, 8.0, 10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 50.0]));
        assert!(!collapsed(&[f64::NAN; 9]));
    }

    #[test]
    fn drift_is_a_gap_of_a_tenth_of_what_was_gained_once_tau_has_fallen() {
        let apart = |values: &[f64]| !kinds(GAP, values).is_empty();
        assert!(apart(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.6, 0.7]));
        assert!(
            !apart(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.6, 0.7]),
            "an improvement of 4 nats allows a gap of 0.4"
        );
        assert!(
            !apart(&[9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]),
            "τ was still falling at the first of the three"
        );
        assert!(!apart(&[-1.0; 9]));
        assert_eq!(kinds(GAP, &[2.0; 10]), ["the bounds have drifted apart"]);
    }
}
