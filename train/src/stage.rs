//! What a training stage gives to the loop.

use anyhow::Result;
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
