#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! A network of three weights that trains in milliseconds, and a run folder for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use dalle_model::Device;
use dalle_model::burn::module::Param;
use dalle_model::burn::nn::Linear;
use dalle_model::burn::tensor::Tensor;
use dalle_shared::sha256_hex;
use dalle_train::gradients::Gradients;
use dalle_train::interrupt::Interrupt;
use dalle_train::metrics::Metrics;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::ranks::Ranks;
use dalle_train::run_state::History;
use dalle_train::stage::{Stage, Validation};
use dalle_train::training::{Hooks, RunConfig, train};

/// Fits a line. The gradients of selected updates are NaN.
#[derive(Clone)]
pub struct Toy {
    steps: u64,
    skipped: Vec<u64>,
    most_skipped: u64,
    save_seconds: u64,
    stop: Option<u64>,
    halvings: Option<usize>,
    validate_every: Option<u64>,
    patience: Option<u64>,
    sheet_every: Option<u64>,
    /// The validation loss as a function of the number of updates, instead of the sum of the weights.
    validation: Option<fn(u64) -> f64>,
    updates: u64,
    plotter: bool,
    learning_rate: f64,
    interrupt: Interrupt,
    first: Arc<AtomicU64>,
    by_hand: bool,
}

impl Toy {
    pub fn new(steps: u64) -> Self {
        Self {
            steps,
            skipped: Vec::new(),
            most_skipped: 20,
            save_seconds: 1000,
            stop: None,
            halvings: None,
            validate_every: None,
            patience: None,
            sheet_every: None,
            validation: None,
            updates: 0,
            plotter: true,
            learning_rate: 0.05,
            interrupt: Interrupt::default(),
            first: Arc::default(),
            by_hand: false,
        }
    }

    /// With gradients that are not computed by autodiff.
    pub fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    /// The first update of the last call of `train`.
    pub fn first_update(&self) -> u64 {
        self.first.load(Ordering::Relaxed)
    }

    /// With NaN gradients in these updates, counted from 0.
    pub fn skipping(mut self, updates: &[u64]) -> Self {
        self.skipped = updates.to_vec();
        self
    }

    /// Allows fewer skipped updates in a row than this.
    pub fn allowing(mut self, most_skipped: u64) -> Self {
        self.most_skipped = most_skipped;
        self
    }

    pub fn saving_always(mut self) -> Self {
        self.save_seconds = 0;
        self
    }

    pub fn halved_by_hand(mut self, times: usize) -> Self {
        self.halvings = Some(times);
        self
    }

    /// With a validation after every `every` updates, with this loss.
    pub fn validated(mut self, every: u64, loss: Option<fn(u64) -> f64>) -> Self {
        (self.validate_every, self.validation) = (Some(every), loss);
        self
    }

    pub fn with_patience(mut self, patience: u64) -> Self {
        self.patience = Some(patience);
        self
    }

    pub fn with_sheets(mut self, every: u64) -> Self {
        self.sheet_every = Some(every);
        self
    }

    pub fn without_plotter(mut self) -> Self {
        self.plotter = false;
        self
    }

    pub fn with_learning_rate(mut self, rate: f64) -> Self {
        self.learning_rate = rate;
        self
    }

    /// Interrupted after this many updates.
    pub fn stopping_at(mut self, updates: u64) -> Self {
        self.stop = Some(updates);
        self.interrupt = Interrupt::default();
        self.first = Arc::default();
        self
    }
}

impl Stage for Toy {
    type Network = Linear;

    fn uses_autodiff(&self) -> bool {
        !self.by_hand
    }

    fn gradients(&mut self, network: &Linear, step: u64) -> Result<(Gradients, Metrics)> {
        if self.stop == Some(step + 1) {
            self.interrupt.raise();
        }
        self.updates = step + 1;
        self.first.fetch_min(step, Ordering::Relaxed);
        assert_eq!(network.weight.val().is_autodiff(), !self.by_hand);
        let device = network.weight.val().device();
        let x = [(step % 7) as f32 / 7.0, (step % 5) as f32 / 5.0];
        let y = Tensor::<2>::from_floats([[2.0 * x[0] - x[1] + 0.5]], &device);
        let error = network.forward(Tensor::<2>::from_floats([x], &device)) - y;
        let loss = error.clone().square().sum();
        let factor = if self.skipped.contains(&step) { f32::NAN } else { 1.0 };
        let loss = loss.mul_scalar(factor);
        if self.by_hand {
            let slope = error.mul_scalar(2.0 * factor).reshape([1]);
            let mut gradients = Gradients::default();
            gradients.insert("weight".into(), Tensor::<1>::from_floats(x, &device) * slope.clone());
            gradients.insert("bias".into(), slope);
            return Ok((gradients, vec![("loss", loss)]));
        }
        Ok((Gradients::of(&loss, network), vec![("loss", loss)]))
    }

    fn validate(&mut self, network: &Linear) -> Result<Validation> {
        assert!(!network.weight.val().is_autodiff());
        let sum = f64::from(network.weight.val().sum().into_scalar::<f32>());
        Ok(Validation {
            loss: self.validation.map_or(sum, |loss| loss(self.updates)),
            others: vec![("sum", sum)],
        })
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.learning_rate / (1.0 + step as f64 / 10.0)
    }

    fn most_skipped(&self) -> u64 {
        self.most_skipped
    }
}

/// A plotter that works or fails.
struct Plotter(bool);

impl Hooks<Linear> for Plotter {
    fn plot(&mut self, _: &str, _: &History, _: &Path) -> Result<()> {
        anyhow::ensure!(self.0, "no space left on device");
        Ok(())
    }

    fn sheet(&mut self, network: &Linear, step: u64, run: &Path) -> Result<()> {
        anyhow::ensure!(self.0, "no space left on device");
        let sum = network.weight.val().sum().into_scalar::<f32>();
        Ok(fs::write(run.join(format!("sheet-{step}")), sum.to_string())?)
    }
}

/// A run folder.
pub struct Workplace(tempfile::TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn run(&self) -> PathBuf {
        self.0.path().join("run")
    }

    /// Trains, or continues; returns the averaged weights.
    pub fn train(&self, toy: &Toy) -> Result<Vec<f32>> {
        let config = RunConfig {
            title: "toy".to_owned(),
            steps: toy.steps,
            log_every: 5,
            sheet_every: toy.sheet_every,
            save_seconds: toy.save_seconds,
            halvings: toy.halvings,
            validate_every: toy.validate_every,
            plateau_patience: toy.patience,
            run: self.run(),
            identity: serde_json::json!({ "network": "toy" }),
            files: Vec::new(),
            optimizer: AdamWConfig {
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.01,
                clip: Some(1.0),
                ewma: 0.9,
            },
            compression: None,
            ranks: Ranks::alone(),
        };
        toy.first.store(u64::MAX, Ordering::Relaxed);
        let device = Device::flex().autodiff();
        let fresh = Linear {
            weight: Param::from_tensor(Tensor::from_floats([[0.3], [-0.2]], &device)),
            bias: Some(Param::from_tensor(Tensor::from_floats([0.1], &device))),
        };
        let (network, _) =
            train(&mut toy.clone(), fresh, &config, &mut Plotter(toy.plotter), &toy.interrupt)?;
        let [weight, bias] = [network.weight.val().flatten::<1>(0, 1), network.bias.unwrap().val()];
        Ok(Tensor::cat(vec![weight, bias], 0).into_data().iter::<f32>().collect())
    }

    /// Names of the checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<String> {
        let entries = fs::read_dir(self.run().join("checkpoints")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("step-")).collect();
        names.sort();
        names
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> PathBuf {
        self.run().join("checkpoints").join(self.checkpoints().last().unwrap())
    }

    pub fn state(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.newest().join("state.json")).unwrap()).unwrap()
    }

    pub fn history(&self) -> serde_json::Value {
        self.state()["history"].take()
    }

    /// Changes the newest checkpoint's state.json, and its manifest with it.
    pub fn edit_state(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let (folder, mut state) = (self.newest(), self.state());
        change(&mut state);
        let content = serde_json::to_vec(&state).unwrap();
        let path = folder.join("manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["files"]["state.json"] = serde_json::json!([content.len(), sha256_hex(&content)]);
        fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        fs::write(folder.join("state.json"), content).unwrap();
    }
}
