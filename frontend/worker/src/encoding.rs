//! A picture to its tokens, with an encoder that is fetched for the first one.

use dalle_model::config::ModelConfig;
use dalle_model::dvae::Encoder;
use dalle_model::{Device, weights};
use dalle_shared::{DecoderPart, ImageToken, ModelFile};
use wasm_bindgen::JsValue;

use crate::failure::Failure;
use crate::{download, picture};

/// The encoder of a model, once it is needed.
pub struct Encoding {
    backend: String,
    /// None where the model came without.
    file: Option<ModelFile>,
    config: ModelConfig,
    device: Device,
    encoder: Option<Encoder>,
}

impl Encoding {
    /// An encoder to be fetched from `backend` when the first picture comes.
    pub fn new(backend: &str, file: Option<ModelFile>, config: ModelConfig, device: Device) -> Self {
        Self { backend: backend.to_owned(), file, config, device, encoder: None }
    }

    /// The tokens of a picture file; or why there are none, in a sentence, when that says nothing against the worker.
    ///
    /// # Errors
    /// The device's failure, after which nothing can be expected of the worker.
    pub async fn encode(&mut self, file: &JsValue) -> Result<Result<Vec<ImageToken>, String>, Failure> {
        let size = self.config.image_size;
        let rgb = match picture::square(file, size).await {
            Ok(rgb) => rgb,
            Err(message) => return Ok(Err(message)),
        };
        let encoder = match self.encoder().await {
            Ok(encoder) => encoder,
            Err(message) => return Ok(Err(message)),
        };
        let tokens = encoder
            .encode_rgb_async(&rgb, size)
            .await
            .map_err(|error| Failure::of_running(format!("the image could not be encoded: {error}")))?;
        Ok(Ok(tokens))
    }

    async fn encoder(&mut self) -> Result<&Encoder, String> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.fetch().await?,
        };
        Ok(self.encoder.insert(encoder))
    }

    async fn fetch(&self) -> Result<Encoder, String> {
        let file = self.file.as_ref().ok_or("this model came without an encoder")?;
        let bytes = download::file(&self.backend, file, DecoderPart::Encoder)
            .await
            .map_err(|failure| failure.message)?;
        weights::from_safetensors(Encoder::new(&self.config.dvae, &self.device), &bytes)
            .map_err(|error| format!("{}: {error}", file.name))
    }
}
