#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! What several tests need.

use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, Param};
use dalle_model::burn::tensor::{Distribution, Tensor};
use dalle_model::config::ModelConfig;
use dalle_model::prior::Prior;
use dalle_model::sample::uniform;
use dalle_shared::{ImageToken, TextToken};

/// A configuration of the repository.
pub fn config(name: &str) -> ModelConfig {
    let path = format!("{}/../configs/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let config: ModelConfig = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
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

/// A size at which every ring of the cache goes round several times.
pub fn long_config() -> ModelConfig {
    let mut config = config("tiny");
    config.image_size = 64;
    config.prior.layers = 6;
    config.prior.conv_kernel = 3;
    config.validate().unwrap();
    config
}

/// Random weights of a size at which every part matters: the initialisation's are so small that attention hardly does.
pub fn prior(config: &ModelConfig, device: &Device) -> Prior {
    struct Loud;
    impl ModuleMapper for Loud {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let tracked = tensor.is_autodiff();
                let quiet = tensor.inner();
                let loud = quiet.clone() + quiet.random_like(Distribution::Normal(0.0, 0.2));
                if tracked { Tensor::from_inner(loud).require_grad() } else { loud }
            })
        }
    }
    device.seed(7);
    Prior::new(config, device).map(&mut Loud)
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Fails where two values differ by more than `tolerance`, or one is no number.
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let distance = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    let difference = got.iter().zip(expected).map(distance).fold(0.0, f32::max);
    assert!(difference <= tolerance, "{what}: differ by {difference}");
}
