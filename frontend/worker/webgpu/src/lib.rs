//! The decoder program for GPUs: the dVAE on WebGPU, by Burn.

#![cfg(target_arch = "wasm32")]

use dalle_decoder_worker::probe::{self, Adapter, Choice};
use dalle_decoder_worker::{Failure, Program, run as serve, set_on_gpu};
use dalle_model::Device;
use dalle_model::config::DvaeConfig;
use dalle_model::dvae::{Decoder, Encoder};
use dalle_model::weights::{WeightsError, from_safetensors};
use dalle_shared::{DeviceChoice, ImageToken, WorkerFailure};
use wasm_bindgen::prelude::wasm_bindgen;

/// Runs the worker; see [`dalle_decoder_worker::run`].
#[wasm_bindgen]
pub async fn run(first: String, adapter: String) {
    serve::<Webgpu>(&first, &adapter).await;
}

/// The GPU.
struct Webgpu(Device);

impl Program for Webgpu {
    type Decoder = Decoder;
    type Encoder = Encoder;

    fn choose(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<Choice, String> {
        probe::gpu(choice, adapter)
    }

    async fn open() -> Result<Self, Failure> {
        set_on_gpu();
        let device = Device::wgpu_options().init_async().await;
        device.map(Self).map_err(|error| {
            Failure::new(WorkerFailure::Gpu, format!("WebGPU could not be started: {error}"))
        })
    }

    fn decoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Decoder, WeightsError> {
        from_safetensors(Decoder::new(config, &self.0), file)
    }

    fn encoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Encoder, WeightsError> {
        from_safetensors(Encoder::new(config, &self.0), file)
    }

    async fn decode(decoder: &Decoder, tokens: &[ImageToken], width: usize) -> Result<Vec<u8>, String> {
        decoder.decode_rgb_async(tokens, width).await.map_err(|error| error.to_string())
    }

    async fn stages(decoder: &Decoder, tokens: &[ImageToken], width: usize) -> Result<Vec<Vec<u8>>, String> {
        decoder.stages_rgb_async(tokens, width).await.map_err(|error| error.to_string())
    }

    async fn encode(encoder: &Encoder, rgb: &[u8], width: usize) -> Result<Vec<ImageToken>, String> {
        encoder.encode_rgb_async(rgb, width).await.map_err(|error| error.to_string())
    }
}
