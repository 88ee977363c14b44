//! AdamW with an exponentially weighted average of the weights, and gradient clipping by global norm (appendices A.2 and B.2).
//!
//! The state is keyed by parameter path, so that it can be saved and loaded for a new module.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use dalle_kernels::adamw as kernels;
use dalle_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use dalle_model::burn::tensor::{DType, GradientCheckpointingStrategy, Tensor, TensorData};
use dalle_model::has_kernels;
use dalle_model::weights::name;
use serde::{Deserialize, Serialize};

use crate::gradients::Gradients;

/// Upper bound of the running variance of each value (appendix B.2).
pub(crate) const MAX_VARIANCE: f64 = 5.0;

/// Number of f32 values stored per parameter: weight, gradient, running mean and variance, average.
pub const COPIES: u64 = 5;

/// Hyper-parameters of AdamW other than the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the running mean.
    pub beta1: f64,
    /// Decay of the running variance.
    pub beta2: f64,
    /// Added to the square root of the variance.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices, kernels and embeddings. Gains and biases do not decay.
    pub weight_decay: f64,
    /// Maximum global norm of the gradients, to which larger gradients are scaled down.
    pub clip: Option<f64>,
    /// Decay of the average of the weights.
    pub ewma: f64,
}

impl AdamWConfig {
    /// Stage 1 (appendix A.2).
    pub const DVAE: Self =
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4, clip: None, ewma: 0.999 };
    /// Stage 2 (appendix B.2). The paper averages the weights of every 25th update with a decay of 0.99, which is 0.9996 per update.
    pub const PRIOR: Self =
        Self { beta1: 0.9, beta2: 0.96, epsilon: 1e-8, weight_decay: 4.5e-2, clip: Some(4.0), ewma: 0.9996 };
    /// CLIP (table 20 of arXiv 2103.00020), whose weights are not averaged.
    pub const CLIP: Self =
        Self { beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weight_decay: 0.2, clip: None, ewma: 0.0 };
}

/// The optimizer's state.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    updates: u64,
    state: BTreeMap<String, Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    mean: Tensor<1>,
    variance: Tensor<1>,
    average: Tensor<1>,
}

/// The three tensors kept for a parameter, by the suffix they are saved under.
const PARTS: [&str; 3] = ["mean", "variance", "average"];

impl AdamW {
    /// A new optimizer.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, updates: 0, state: BTreeMap::new() }
    }

    /// Applies an update. Returns the module and the global norm of the gradients before clipping. If the norm is not finite, nothing
    /// changes.
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients, learning_rate: f64) -> (M, f64) {
        let norm = gradients.norm();
        if !norm.is_finite() {
            return (module, norm);
        }
        self.updates += 1;
        let clip = self.config.clip.map_or(1.0, |clip| (clip / norm).min(1.0));
        let mut update = Update { optimizer: self, gradients, learning_rate, clip, path: Vec::new() };
        (module.map(&mut update), norm)
    }

    /// The module with averaged weights.
    pub fn averaged<M: Module>(&self, module: M) -> M {
        module.map(&mut Average { state: &self.state, path: Vec::new() })
    }

    /// Number of updates applied.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state to save: the number of updates, and named tensors.
    pub fn save(&self) -> (u64, Vec<(String, TensorData)>) {
        let tensors = self.state.iter().flat_map(|(path, slot)| {
            let tensors = [&slot.mean, &slot.variance, &slot.average];
            PARTS.iter().zip(tensors).map(move |(part, tensor)| (format!("{path}:{part}"), tensor.to_data()))
        });
        (self.updates, tensors.collect())
    }

    /// Loads a state from [`AdamW::save`], onto the device of `module`. A parameter that never had a gradient has no state.
    ///
    /// # Errors
    /// The state has a parameter that the module does not have, or that has another size.
    pub fn load<M: Module>(
        config: AdamWConfig,
        updates: u64,
        tensors: BTreeMap<String, TensorData>,
        module: &M,
    ) -> Result<Self> {
        Ok(Self { config, updates, state: slots(tensors, module)? })
    }
}

/// `module` with the averaged weights of a saved state.
///
/// # Errors
/// As [`AdamW::load`].
pub fn averaged<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> Result<M> {
    let state = slots(tensors, &module)?;
    Ok(module.map(&mut Average { state: &state, path: Vec::new() }))
}

/// The state of each parameter, from named tensors.
fn slots<M: Module>(mut tensors: BTreeMap<String, TensorData>, module: &M) -> Result<BTreeMap<String, Slot>> {
    let mut names = Names { path: Vec::new(), found: Vec::new() };
    module.visit(&mut names);
    let device = module.devices().swap_remove(0).without_autodiff();
    let mut state = BTreeMap::new();
    for (path, length) in names.found {
        let parts = PARTS.map(|part| tensors.remove(&format!("{path}:{part}")));
        if parts.iter().all(Option::is_none) {
            continue;
        }
        let [mean, variance, average] = parts.map(|part| {
            let data = part.filter(|data| data.num_elements() == length);
            data.map(|data| Tensor::<1>::from_data(data, &device))
        });
        let (Some(mean), Some(variance), Some(average)) = (mean, variance, average) else {
            bail!(
                "the checkpoint's optimizer state of `{path}` is not three tensors of {length} values; it belongs to another \
                 configuration"
            );
        };
        state.insert(path, Slot { mean, variance, average });
    }
    if let Some(name) = tensors.keys().next() {
        bail!(
            "the checkpoint's optimizer state holds `{name}`, which this network does not have; it belongs to another configuration"
        );
    }
    Ok(state)
}

struct Update<'a> {
    optimizer: &'a mut AdamW,
    gradients: Gradients,
    learning_rate: f64,
    clip: f64,
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = name(&self.path);
        let Some(gradient) = self.gradients.remove(&path) else { return param };
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, ewma, .. } = self.optimizer.config;
        let updates = self.optimizer.updates;
        param.map(|tensor| {
            let shape = tensor.shape();
            let tracking = tensor.gradient_checkpointing_strategy();
            let weight = tensor.inner().reshape([shape.num_elements()]);
            let state = &mut self.optimizer.state;
            let slot = state.remove(&path).unwrap_or_else(|| Slot {
                mean: weight.zeros_like(),
                variance: weight.zeros_like(),
                average: weight.clone(),
            });
            let decays = D > 1;
            if has_kernels(&weight.device()) && weight.dtype() == DType::F32 {
                let adamw = kernels::AdamW {
                    beta1,
                    beta2,
                    epsilon,
                    update: updates,
                    learning_rate: self.learning_rate,
                    weight_decay: if decays { weight_decay } else { 0.0 },
                    clip: self.clip,
                    max_variance: MAX_VARIANCE,
                    ewma,
                };
                let (weight, slot) = update_slices(adamw, gradient, weight, slot);
                state.insert(path, slot);
                return tracked(weight.reshape(shape), tracking);
            }
            let gradient = gradient.mul_scalar(self.clip);
            let mean = slot.mean.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
            let variance = slot.variance.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
            let variance = variance.clamp_max(MAX_VARIANCE);
            let correction = |beta: f64| 1.0 - beta.powf(updates as f64);
            let root = variance.clone().div_scalar(correction(beta2)).sqrt().add_scalar(epsilon);
            let direction = mean.clone().div_scalar(correction(beta1)) / root;
            let decay = if decays { 1.0 - self.learning_rate * weight_decay } else { 1.0 };
            let weight = weight.mul_scalar(decay) - direction.mul_scalar(self.learning_rate);
            let average = slot.average.mul_scalar(ewma) + weight.clone().mul_scalar(1.0 - ewma);
            state.insert(path, Slot { mean, variance, average });
            tracked(weight.reshape(shape), tracking)
        })
    }
}

/// One update in one pass over the values, on all threads of the CPU.
fn update_slices(
    adamw: kernels::AdamW,
    gradient: Tensor<1>,
    weight: Tensor<1>,
    slot: Slot,
) -> (Tensor<1>, Slot) {
    let device = weight.device();
    let values = |tensor: Tensor<1>| -> Vec<f32> {
        tensor.into_data().convert::<f32>().try_into_vec().expect("the values were converted to f32")
    };
    let gradient = values(gradient);
    let [mut weight, mut mean, mut variance, mut average] =
        [weight, slot.mean, slot.variance, slot.average].map(values);
    let update = kernels::AdamWUpdate {
        adamw,
        gradient: &gradient,
        weight: &mut weight,
        mean: &mut mean,
        variance: &mut variance,
        average: &mut average,
    };
    update.run();
    let [weight, mean, variance, average] = [weight, mean, variance, average].map(|values| {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &device)
    });
    (weight, Slot { mean, variance, average })
}

/// `value`, tracked by autodiff with the same strategy as the tensors it is used with, or untracked if those are.
pub(crate) fn tracked<const D: usize>(
    value: Tensor<D>,
    tracking: Option<GradientCheckpointingStrategy>,
) -> Tensor<D> {
    match tracking {
        Some(strategy) => {
            Tensor::from_inner(value).with_gradient_checkpointing_strategy(strategy).require_grad()
        }
        None => value,
    }
}

struct Average<'a> {
    state: &'a BTreeMap<String, Slot>,
    path: Vec<String>,
}

impl ModuleMapper for Average<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.state.get(&name(&self.path)) {
            Some(slot) => param.map(|tensor| {
                let average = slot.average.clone().reshape(tensor.shape());
                tracked(average, tensor.gradient_checkpointing_strategy())
            }),
            None => param,
        }
    }
}

struct Names {
    path: Vec<String>,
    found: Vec<(String, usize)>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((name(&self.path), param.lazy_shape().num_elements()));
    }
}

#[cfg(test)]
mod tests {
    use dalle_model::Device;
    use dalle_model::burn::nn::{Linear, LinearConfig};

    use super::*;

    const CONFIG: AdamWConfig =
        AdamWConfig { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1, clip: None, ewma: 0.9 };

    fn two_layers() -> Vec<Linear> {
        let _random = crate::DEVICE_RANDOM.lock();
        let device = Device::flex().autodiff();
        device.seed(7);
        let layers = (0..2).map(|_| LinearConfig::new(2, 3).init(&device)).collect();
        // Weights are random numbers of the device only when they are first read.
        crate::flat::read(&layers, &mut Vec::new());
        layers
    }

    /// Updates the first of two layers. The second has no gradient.
    fn step(optimizer: &mut AdamW, layers: Vec<Linear>) -> Vec<Linear> {
        let x = Tensor::<2>::ones([1, 2], &Device::flex().autodiff());
        let gradients = Gradients::of(&layers[0].forward(x).square().sum(), &layers);
        optimizer.step(layers, gradients, 0.1).0
    }

    fn saved(optimizer: &AdamW) -> BTreeMap<String, TensorData> {
        optimizer.save().1.into_iter().collect()
    }

    #[test]
    fn a_parameter_without_gradient_is_saved_and_loaded_without_state() {
        let mut optimizer = AdamW::new(CONFIG);
        let layers = step(&mut optimizer, two_layers());
        assert_eq!(optimizer.updates(), 1);
        let mut loaded = AdamW::load(CONFIG, 1, saved(&optimizer), &layers).unwrap();
        step(&mut optimizer, layers.clone());
        step(&mut loaded, layers.clone());
        assert_eq!(saved(&loaded), saved(&optimizer));
        // The average of a parameter without state is its value.
        let weight = |layers: &[Linear]| layers[1].weight.val().into_data();
        assert_eq!(weight(&optimizer.averaged(layers.clone())), weight(&layers));
    }

    #[test]
    fn state_of_another_network_is_refused() {
        let mut optimizer = AdamW::new(CONFIG);
        let layers = step(&mut optimizer, two_layers());
        let refusal = |tensors| AdamW::load(CONFIG, 1, tensors, &layers).unwrap_err().to_string();
        let mut part = saved(&optimizer);
        part.remove("0.weight:mean").unwrap();
        assert!(refusal(part).contains("`0.weight` is not three tensors of 6 values"));
        let mut other = saved(&optimizer);
        let data = other["0.weight:mean"].clone();
        other.insert("2.weight:mean".to_owned(), data.clone());
        assert!(refusal(other).contains("holds `2.weight:mean`"));
        let mut size = saved(&optimizer);
        size.insert("0.bias:mean".to_owned(), data);
        assert!(refusal(size).contains("`0.bias`"));
    }
}
