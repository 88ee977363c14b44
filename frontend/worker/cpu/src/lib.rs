//! The decoder program for the CPU: the dVAE in wasm SIMD, by `dalle-kernels`.
//!
//! It is built twice, with and without relaxed SIMD; `static/worker.js` loads the fastest one that the browser can run.

#![cfg(target_arch = "wasm32")]

use dalle_decoder_worker::probe::{self, Adapter, Choice};
use dalle_decoder_worker::{Failure, Program, run as serve};
use dalle_files::config::DvaeConfig;
use dalle_files::tensors::{self, WeightsError};
use dalle_kernels::dvae::{Decoder, DvaeNetwork, DvaeSizes, Encoder};
use dalle_kernels::parameters::Parameter;
use dalle_shared::{DeviceChoice, ImageToken};
use wasm_bindgen::prelude::wasm_bindgen;

/// Runs the worker; see [`dalle_decoder_worker::run`].
#[wasm_bindgen]
pub async fn run(first: String, adapter: String) {
    serve::<Cpu>(&first, &adapter).await;
}

/// The CPU.
struct Cpu;

impl Program for Cpu {
    type Decoder = Decoder;
    type Encoder = Encoder;

    fn choose(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<Choice, String> {
        Ok(probe::cpu(choice, adapter))
    }

    async fn open() -> Result<Self, Failure> {
        Ok(Self)
    }

    fn decoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Decoder, WeightsError> {
        let sizes = sizes(config);
        Ok(Decoder::new(sizes, &values(file, "decoder.", DvaeNetwork::new(sizes).decoder())?))
    }

    fn encoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Encoder, WeightsError> {
        let sizes = sizes(config);
        Ok(Encoder::new(sizes, &values(file, "encoder.", DvaeNetwork::new(sizes).encoder())?))
    }

    async fn decode(decoder: &Decoder, tokens: &[ImageToken], width: usize) -> Result<Vec<u8>, String> {
        Ok(decoder.decode(&ids(tokens), width))
    }

    async fn stages(decoder: &Decoder, tokens: &[ImageToken], width: usize) -> Result<Vec<Vec<u8>>, String> {
        Ok(decoder.stages(&ids(tokens), width).into())
    }

    async fn encode(encoder: &Encoder, rgb: &[u8], width: usize) -> Result<Vec<ImageToken>, String> {
        Ok(encoder.encode(rgb, width).into_iter().map(ImageToken).collect())
    }
}

fn ids(tokens: &[ImageToken]) -> Vec<u16> {
    tokens.iter().map(|token| token.0).collect()
}

fn sizes(config: &DvaeConfig) -> DvaeSizes {
    let DvaeConfig { n_hid, n_init, blocks_per_group, vocab } = *config;
    DvaeSizes { n_hid, n_init, blocks_per_group, vocab }
}

/// The values of these parameters in a file, in which their names lack the prefix `half`.
fn values(file: &[u8], half: &str, parameters: &[Parameter]) -> Result<Vec<f32>, WeightsError> {
    let tensors = parameters
        .iter()
        .map(|parameter| (parameter.name.trim_start_matches(half), parameter.shape.as_slice()));
    tensors::values(file, tensors)
}
