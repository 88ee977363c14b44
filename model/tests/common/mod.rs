#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! What several tests need.

use dalle_model::config::ModelConfig;
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
