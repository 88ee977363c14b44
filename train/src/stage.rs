//! The interface between a training stage and the training loop.

use anyhow::{Context, Result};
use dalle_model::burn::module::Module;

use crate::gradients::Gradients;
use crate::metrics::Metrics;
use crate::run_state::History;

/// A sign of a problem that does not end the run.
#[derive(Clone, Debug)]
pub struct Warning {
    /// Each kind is shown once.
    pub kind: &'static str,
    /// What was expected, what was observed, and what to do.
    pub text: String,
}

/// Metrics of held-out data.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// The loss, by which the best weights are selected.
    pub loss: f64,
    /// Further metrics by name.
    pub others: Vec<(&'static str, f64)>,
}

impl Validation {
    /// Reads metrics, of which the first is the loss.
    ///
    /// # Errors
    /// There are no metrics, because there is no held-out data.
    pub(crate) fn read(metrics: Metrics) -> Result<Self> {
        let mut values =
            metrics.into_iter().map(|(name, value)| (name, f64::from(value.into_scalar::<f32>())));
        let (_, loss) = values.next().context("there is no held-out data to validate on")?;
        Ok(Self { loss, others: values.collect() })
    }
}

/// A network in training and its data: the dVAE, the prior, or CLIP.
pub trait Stage {
    /// The network.
    type Network: Module;

    /// The gradients of update `step`, and metrics whose averages are logged. A pure function of the network, the data and `step`, so
    /// that a resumed run continues as if it had not stopped.
    fn gradients(&mut self, network: &Self::Network, step: u64) -> Result<(Gradients, Metrics)>;

    /// Metrics that are too expensive for every update. Computed once before each log.
    fn extra_metrics(&mut self, _network: &Self::Network, _step: u64) -> Result<Metrics> {
        Ok(Vec::new())
    }

    /// The loss on held-out data. `network` has averaged weights and no autodiff. All calls use the same random numbers, so that
    /// their results are comparable.
    fn validate(&mut self, network: &Self::Network) -> Result<Validation>;

    /// Warnings for the values logged so far.
    fn warnings(&self, _history: &History) -> Vec<Warning> {
        Vec::new()
    }

    /// The learning rate of update `step`.
    fn learning_rate(&self, step: u64) -> f64;

    /// Called after each update. Clamps bounded parameters.
    fn after_update(&self, network: Self::Network) -> Self::Network {
        network
    }
}
