//! What a training stage gives to the loop.

use anyhow::{Context, Result};
use dalle_model::burn::module::Module;

use crate::gradients::Gradients;
use crate::metrics::Metrics;
use crate::run_state::History;

/// A sign that a run goes wrong although it goes on.
#[derive(Clone, Debug)]
pub struct Warning {
    /// Each kind is shown once.
    pub kind: &'static str,
    /// What was expected, what was received, what to do.
    pub text: String,
}

/// Metrics of held-out data.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// What decides which weights are the best.
    pub loss: f64,
    /// Further metrics by name.
    pub others: Vec<(&'static str, f64)>,
}

impl Validation {
    /// From metrics, the first of which is the loss.
    ///
    /// # Errors
    /// There are none: no data is held out.
    pub(crate) fn read(metrics: Metrics) -> Result<Self> {
        let mut values =
            metrics.into_iter().map(|(name, value)| (name, f64::from(value.into_scalar::<f32>())));
        let (_, loss) = values.next().context("no data is held out to validate on")?;
        Ok(Self { loss, others: values.collect() })
    }
}

/// A network in training, as the loop sees it: the dVAE, the prior, or CLIP.
pub trait Stage {
    /// What is trained.
    type Network: Module;

    /// Gradients of the loss of update `step`, and metrics, whose averages are logged. A function of the network, the stage's
    /// data and `step` alone, so that a resumed run continues as if it had not stopped.
    fn gradients(&mut self, network: &Self::Network, step: u64) -> Result<(Gradients, Metrics)>;

    /// Metrics that are too expensive for every update: computed after the last one before each log.
    fn extra_metrics(&mut self, _network: &Self::Network, _step: u64) -> Result<Metrics> {
        Ok(Vec::new())
    }

    /// The loss of held-out data, with the averaged weights of a network without autodiff. Nothing random differs between two
    /// calls, so that their results can be compared.
    fn validate(&mut self, network: &Self::Network) -> Result<Validation>;

    /// Warnings that follow from everything logged so far.
    fn warnings(&self, _history: &History) -> Vec<Warning> {
        Vec::new()
    }

    /// Learning rate of update `step`.
    fn learning_rate(&self, step: u64) -> f64;

    /// The network after an update, with bounded parameters clamped.
    fn after_update(&self, network: Self::Network) -> Self::Network {
        network
    }
}
