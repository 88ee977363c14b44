//! Loading a model: from the page's first command to a decoder that is warmed up.

use dalle_model::config::ModelConfig;
use dalle_model::dvae::Decoder;
use dalle_model::{Device, weights};
use dalle_shared::{
    DecoderDevice, DecoderFailure, DecoderPart, DecoderReport, DeviceChoice, Geometry, ImageToken, ModelFile,
    files,
};

use crate::download;
use crate::encoding::Encoding;
use crate::failure::{Failure, set_on_gpu};
use crate::port::{scope, send};
use crate::probe::{Adapter, choose};

/// A loaded decoder, and the model's encoder, which is not downloaded yet.
pub struct Loaded {
    decoder: Decoder,
    geometry: Geometry,
    /// Encodes images to tokens.
    pub encoding: Encoding,
}

/// Downloads, checks and loads a model's decoder, and decodes once to warm it up.
///
/// # Errors
/// A download, file, device or decode that failed.
pub async fn load(
    backend: &str,
    files: &[ModelFile],
    choice: DeviceChoice,
    adapter: Option<&Adapter>,
) -> Result<Loaded, Failure> {
    let device = choose(choice, adapter).map_err(|why| Failure::new(DecoderFailure::Gpu, why))?;
    let find = |name: &str| {
        files.iter().find(|file| file.name == name).ok_or_else(|| {
            Failure::new(DecoderFailure::WrongFile, format!("the server's manifest lists no {name}"))
        })
    };
    let config = download::file(backend, find(files::CONFIG)?, DecoderPart::Weights).await?;
    let config: ModelConfig = serde_json::from_slice(&config)
        .map_err(|error| Failure::new(DecoderFailure::WrongFile, format!("config.json: {error}")))?;
    config.validate().map_err(|error| Failure::new(DecoderFailure::WrongFile, error.to_string()))?;
    let bytes = download::file(backend, find(files::DECODER)?, DecoderPart::Weights).await?;

    send(&DecoderReport::Starting { device: device.clone() });
    let burn_device = open(&device).await?;
    let decoder = weights::from_safetensors(Decoder::new(&config.dvae, &burn_device), &bytes)
        .map_err(|error| Failure::new(DecoderFailure::WrongFile, format!("decoder.safetensors: {error}")))?;
    let geometry = config.geometry();
    let encoder = find(files::ENCODER).ok().cloned();
    let encoding = Encoding::new(backend, encoder, config, burn_device);
    let loaded = Loaded { decoder, geometry, encoding };

    let blank = vec![ImageToken(0); loaded.geometry.image_length()];
    if matches!(device, DecoderDevice::Webgpu { .. }) {
        // The first decode on a GPU compiles its shaders, so its time is not representative.
        loaded.decode(&blank).await?;
    }
    let (_, decode_ms) = loaded.decode(&blank).await?;
    send(&DecoderReport::Ready { device, decode_ms });
    Ok(loaded)
}

async fn open(device: &DecoderDevice) -> Result<Device, Failure> {
    match device {
        DecoderDevice::Cpu { .. } => Ok(Device::flex()),
        DecoderDevice::Webgpu { .. } => {
            set_on_gpu();
            Device::wgpu_options().init_async().await.map_err(|error| {
                Failure::new(DecoderFailure::Gpu, format!("WebGPU could not be started: {error}"))
            })
        }
    }
}

impl Loaded {
    /// The RGBA pixels of a whole grid of tokens, `image_size² · 4` bytes, and the milliseconds that decoding took.
    ///
    /// # Errors
    /// Tokens that are not a grid of this model, or a failure of the device.
    pub async fn decode(&self, tokens: &[ImageToken]) -> Result<(Vec<u8>, f64), Failure> {
        let Geometry { grid, image_vocab, .. } = self.geometry;
        if tokens.len() != self.geometry.image_length() {
            let message = format!("expected {} tokens, got {}", self.geometry.image_length(), tokens.len());
            return Err(Failure::new(DecoderFailure::Fault, message));
        }
        if let Some(token) = tokens.iter().find(|token| usize::from(token.0) >= image_vocab) {
            let message = format!("token {} is not below the codebook's {image_vocab}", token.0);
            return Err(Failure::new(DecoderFailure::Fault, message));
        }
        let start = now();
        let rgb = self
            .decoder
            .decode_rgb_async(tokens, grid)
            .await
            .map_err(|error| Failure::of_running(format!("the image could not be decoded: {error}")))?;
        let rgba = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], u8::MAX]).collect();
        Ok((rgba, now() - start))
    }
}

fn now() -> f64 {
    scope().performance().map_or_else(js_sys::Date::now, |clock| clock.now())
}
