//! Encoding of images to tokens. The encoder is downloaded for the first one.

use dalle_files::config::ModelConfig;
use dalle_shared::{ImageToken, ModelFile, WorkerPart};
use wasm_bindgen::JsValue;

use crate::failure::Failure;
use crate::program::Program;
use crate::{download, image};

/// The encoder of a model, downloaded when it is first needed.
pub struct Encoding<P: Program> {
    base: String,
    /// None if the model has no encoder.
    file: Option<ModelFile>,
    config: ModelConfig,
    encoder: Option<P::Encoder>,
}

impl<P: Program> Encoding<P> {
    /// An encoder to be downloaded from `base` for the first image.
    pub fn new(base: &str, file: Option<ModelFile>, config: ModelConfig) -> Self {
        Self { base: base.to_owned(), file, config, encoder: None }
    }

    /// The `grid²` tokens of an image file in raster order, and the square that was encoded as RGBA; or, if the worker can go on, a sentence that says why not.
    ///
    /// # Errors
    /// A failure of the device, which ends the worker.
    pub async fn encode(
        &mut self,
        program: &P,
        file: &JsValue,
    ) -> Result<Result<(Vec<ImageToken>, Vec<u8>), String>, Failure> {
        let size = self.config.image_size;
        let rgb = match image::square(file, size).await {
            Ok(rgb) => rgb,
            Err(message) => return Ok(Err(message)),
        };
        let encoder = match self.encoder(program).await {
            Ok(encoder) => encoder,
            Err(message) => return Ok(Err(message)),
        };
        let tokens = P::encode(encoder, &rgb, size)
            .await
            .map_err(|error| Failure::of_running(format!("the image could not be encoded: {error}")))?;
        let mut rgba = Vec::with_capacity(rgb.len() / 3 * 4);
        image::append_rgba(&rgb, &mut rgba);
        Ok(Ok((tokens, rgba)))
    }

    async fn encoder(&mut self, program: &P) -> Result<&P::Encoder, String> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.fetch(program).await?,
        };
        Ok(self.encoder.insert(encoder))
    }

    async fn fetch(&self, program: &P) -> Result<P::Encoder, String> {
        let file = self.file.as_ref().ok_or("this model has no encoder")?;
        let bytes =
            download::file(&self.base, file, WorkerPart::Encoder).await.map_err(|failure| failure.message)?;
        program.encoder(&self.config.dvae, &bytes).map_err(|error| format!("{}: {error}", file.name))
    }
}
