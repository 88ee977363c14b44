#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! Helpers of several tests.

use std::collections::BTreeMap;
use std::path::Path;

use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Gradients, Tensor, TensorData};
use dalle_model::config::ModelConfig;
use dalle_model::prior::Prior;
use dalle_model::sample::uniform;
use dalle_model::weights::name;
use dalle_shared::{ImageToken, TextToken};

/// A configuration of the repository.
pub fn config(name: &str) -> ModelConfig {
    let mut roots = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let configs =
        roots.find_map(|root| Some(root.join("configs")).filter(|configs| configs.is_dir())).unwrap();
    let json = std::fs::read_to_string(configs.join(format!("{name}.json"))).unwrap();
    let config: ModelConfig = serde_json::from_str(&json).unwrap();
    config.validate().unwrap();
    config
}

/// `length` pseudo-random numbers below `bound`.
pub fn numbers(seed: u64, length: usize, bound: usize) -> Vec<usize> {
    (0..length).map(|place| (uniform(seed, 0, place as u64) * bound as f64) as usize).collect()
}

/// A pseudo-random image of `config`.
pub fn image(config: &ModelConfig, seed: u64) -> Vec<ImageToken> {
    let geometry = config.geometry();
    numbers(seed, geometry.image_length(), geometry.image_vocab)
        .into_iter()
        .map(|t| ImageToken(t as u16))
        .collect()
}

/// A pseudo-random caption of `config` with `length` ids.
pub fn caption(config: &ModelConfig, seed: u64, length: usize) -> Vec<TextToken> {
    numbers(seed, length, config.text_vocab).into_iter().map(|t| TextToken(t as u32)).collect()
}

/// A size at which every ring of the cache wraps around several times.
pub fn long_config() -> ModelConfig {
    let mut config = config("tiny");
    config.image_size = 64;
    config.prior.layers = 6;
    config.prior.conv_kernel = 3;
    config.validate().unwrap();
    config
}

/// A tensor of pseudo-random numbers with mean 0 and standard deviation 1. The device's own generator is shared by all tests of a
/// process, which run concurrently, so its numbers are not reproducible.
pub fn random<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let value = |index| (uniform(seed, 1, index as u64) as f32 - 0.5) * 12f32.sqrt();
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The module with reproducible random weights that are large enough for every part to matter. With initial weights, attention
/// has hardly any effect.
pub fn loud<M: Module>(module: M) -> M {
    struct Loud(u64);
    impl ModuleMapper for Loud {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let seed = self.0;
            param.map(|tensor| {
                let tracked = tensor.is_autodiff();
                let quiet = tensor.inner();
                let noise = random(seed, quiet.dims(), &quiet.device());
                let loud = match D {
                    // Gains stay near 1.
                    1 => quiet.equal_elem(1.0).float() + noise.mul_scalar(0.2),
                    2 => noise.mul_scalar(0.2),
                    // A convolution keeps the magnitude of its input.
                    _ => noise.div_scalar((quiet.dims()[1..].iter().product::<usize>() as f64).sqrt()),
                };
                if tracked { Tensor::from_inner(loud).require_grad() } else { loud }
            })
        }
    }
    module.map(&mut Loud(0))
}

/// A prior with [`loud`] weights.
pub fn prior(config: &ModelConfig, device: &Device) -> Prior {
    loud(Prior::new(config, device))
}

/// The gradient of every parameter, by name.
pub fn gradients(module: &impl Module, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    struct Collect<'a> {
        gradients: &'a Gradients,
        path: Vec<String>,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
            self.found.insert(name(&self.path), values(gradient));
        }
    }
    let mut collect = Collect { gradients, path: Vec::new(), found: BTreeMap::new() };
    module.visit(&mut collect);
    collect.found
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that values differ by at most `tolerance`, and that none is NaN.
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let distance = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    let difference = got.iter().zip(expected).map(distance).fold(0.0, f32::max);
    assert!(difference <= tolerance, "{what}: differ by {difference}");
}

/// The largest absolute value.
pub fn greatest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |greatest, value| greatest.max(value.abs()))
}
