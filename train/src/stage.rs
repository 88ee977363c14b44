//! The interface between a training stage and the training loop.
//!
//! A stage that fits the line y = 2x − 1:
//!
//! ```
//! use anyhow::Result;
//! use dalle_model::Device;
//! use dalle_model::burn::nn::{Linear, LinearConfig};
//! use dalle_model::burn::tensor::Tensor;
//! use dalle_train::gradients::Gradients;
//! use dalle_train::interrupt::Interrupt;
//! use dalle_train::metrics::Metrics;
//! use dalle_train::optimizer::AdamWConfig;
//! use dalle_train::ranks::Ranks;
//! use dalle_train::run_state::History;
//! use dalle_train::stage::{Stage, Validation};
//! use dalle_train::training::{Hooks, RunConfig, train};
//!
//! struct Line(Device);
//!
//! impl Line {
//!     fn loss(&self, network: &Linear, x: f32, device: &Device) -> Tensor<1> {
//!         let y = network.forward(Tensor::<2>::from_floats([[x]], device));
//!         (y - (2.0 * x - 1.0)).square().sum()
//!     }
//! }
//!
//! impl Stage for Line {
//!     type Network = Linear;
//!
//!     fn gradients(&mut self, network: &Linear, step: u64) -> Result<(Gradients, Metrics)> {
//!         let loss = self.loss(network, (step % 5) as f32, &self.0);
//!         Ok((Gradients::of(&loss, network), vec![("loss", loss)]))
//!     }
//!
//!     fn validate(&mut self, network: &Linear) -> Result<Validation> {
//!         let loss = self.loss(network, 2.5, &Device::flex()).into_scalar::<f32>();
//!         Ok(Validation { loss: loss.into(), others: Vec::new() })
//!     }
//!
//!     fn learning_rate(&self, _: u64) -> f64 {
//!         0.05
//!     }
//! }
//!
//! /// Writes no plots and sheets.
//! struct Silent;
//!
//! impl Hooks<Linear> for Silent {
//!     fn plot(&mut self, _: &str, _: &History, _: &std::path::Path) -> Result<()> {
//!         Ok(())
//!     }
//!
//!     fn sheet(&mut self, _: &Linear, _: u64, _: &std::path::Path) -> Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let folder = tempfile::tempdir()?;
//! let config = RunConfig {
//!     title: "a line".to_owned(),
//!     steps: 200,
//!     log_every: 50,
//!     validate_every: Some(100),
//!     plateau_patience: None,
//!     sheet_every: None,
//!     save_seconds: 600,
//!     halvings: None,
//!     run: folder.path().join("run"),
//!     identity: serde_json::json!({ "network": "line" }),
//!     files: Vec::new(),
//!     optimizer: AdamWConfig {
//!         beta1: 0.9,
//!         beta2: 0.99,
//!         epsilon: 1e-8,
//!         weight_decay: 0.0,
//!         clip: None,
//!         ewma: 0.9,
//!     },
//!     compression: None,
//!     ranks: Ranks::alone(),
//! };
//! let device = Device::flex().autodiff();
//! let fresh = LinearConfig::new(1, 1).init(&device);
//! let (_, state) = train(&mut Line(device), fresh, &config, &mut Silent, &Interrupt::default())?;
//! assert!(state.best.unwrap().loss < 0.1);
//! # Ok(())
//! # }
//! ```

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
    /// Zeros, for a rank without a share of the held-out data.
    pub(crate) fn none(others: &[&'static str]) -> Self {
        Self { loss: 0.0, others: others.iter().map(|name| (*name, 0.0)).collect() }
    }

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

    /// Whether its gradients come from Burn's autodiff. Otherwise the network has none: Burn frees what it keeps of tracked parameters
    /// only in a backward pass, so that without one it would need more memory with each update.
    fn uses_autodiff(&self) -> bool {
        true
    }

    /// The gradients of update `step`, and metrics whose averages are logged. A pure function of the network, the data and `step`, so
    /// that a resumed run continues as if it had not stopped. If several ranks train together, those of this rank's share of the
    /// batch: the sums over ranks are the gradients and metrics of the batch.
    fn gradients(&mut self, network: &Self::Network, step: u64) -> Result<(Gradients, Metrics)>;

    /// Metrics that are too expensive for every update, of this rank's share. Computed once before each log.
    fn extra_metrics(&mut self, _network: &Self::Network, _step: u64) -> Result<Metrics> {
        Ok(Vec::new())
    }

    /// Values of this moment that are the same on all ranks, logged as they are. Those named `group/member` are plotted together, and are
    /// not shown in the terminal.
    fn log_values(&self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// The loss on held-out data. `network` has averaged weights and no autodiff. All calls use the same random numbers, so that
    /// their results are comparable. If several ranks train together, this rank's share of it: the sums over ranks are the metrics of all
    /// held-out data, and a rank whose share is empty returns zeros.
    fn validate(&mut self, network: &Self::Network) -> Result<Validation>;

    /// Warnings for the values logged so far.
    fn warnings(&self, _history: &History) -> Vec<Warning> {
        Vec::new()
    }

    /// The learning rate of update `step`.
    fn learning_rate(&self, step: u64) -> f64;

    /// How many updates in a row may have gradients that are not finite before training has diverged: a few may be due to single
    /// examples.
    fn most_skipped(&self) -> u64 {
        20
    }

    /// What the next update depends on besides the network, for checkpoints.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Continues with a [`state`](Self::state).
    ///
    /// # Errors
    /// It is not one of this stage.
    fn restore(&mut self, _state: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    /// Called after each update. Clamps bounded parameters.
    fn after_update(&self, network: Self::Network) -> Self::Network {
        network
    }
}
