//! Loads a model: from the page's first command to a warmed-up decoder.

use dalle_shared::{
    DecoderDevice, DecoderReport, Geometry, ImageToken, ModelFile, WorkerFailure, WorkerPart, files,
};

use crate::download;
use crate::encoding::Encoding;
use crate::failure::Failure;
use crate::image::append_rgba;
use crate::port::{now, send};
use crate::program::Program;

/// A faster first decode is repeated before its time is reported: browsers run new code slowly at first.
const QUICK_MS: f64 = 100.0;

/// A program with a loaded decoder, and the model's encoder, which is not downloaded yet.
pub struct Loaded<P: Program> {
    /// The program.
    pub program: P,
    decoder: P::Decoder,
    geometry: Geometry,
    /// Encodes images to tokens.
    pub encoding: Encoding<P>,
}

impl<P: Program> Loaded<P> {
    /// Downloads, checks and loads a model's decoder, and decodes once to warm it up.
    ///
    /// # Errors
    /// A download, file, device or decode that failed.
    pub async fn load(base: &str, files: &[ModelFile], device: DecoderDevice) -> Result<Self, Failure> {
        let config = download::config(base, files).await?;
        let bytes =
            download::file(base, download::listed(files, files::DECODER)?, WorkerPart::Weights).await?;

        send(&DecoderReport::Starting { device: device.clone() });
        let program = P::open().await?;
        let decoder = program.decoder(&config.dvae, &bytes).map_err(|error| {
            Failure::new(WorkerFailure::WrongFile, format!("decoder.safetensors: {error}"))
        })?;
        let geometry = config.geometry();
        let encoding = Encoding::new(base, download::listed(files, files::ENCODER).ok().cloned(), config);
        let loaded = Self { program, decoder, geometry, encoding };

        let blank = vec![ImageToken(0); loaded.geometry.image_length()];
        let (_, mut decode_ms) = loaded.decode(&blank).await?;
        // The first decode on a GPU compiles its shaders.
        if decode_ms < QUICK_MS || matches!(device, DecoderDevice::Webgpu { .. }) {
            (_, decode_ms) = loaded.decode(&blank).await?;
        }
        send(&DecoderReport::Ready { device, decode_ms });
        Ok(loaded)
    }

    /// The RGBA pixels of a whole grid of tokens, `image_size² · 4` bytes, and the milliseconds that decoding took.
    ///
    /// # Errors
    /// Tokens that are not a grid of this model, or a failure of the device.
    pub async fn decode(&self, tokens: &[ImageToken]) -> Result<(Vec<u8>, f64), Failure> {
        self.check(tokens)?;
        let start = now();
        let rgb =
            P::decode(&self.decoder, tokens, self.geometry.grid).await.map_err(|error| undecoded(&error))?;
        let mut rgba = Vec::with_capacity(rgb.len() / 3 * 4);
        append_rgba(&rgb, &mut rgba);
        Ok((rgba, now() - start))
    }

    /// The RGBA pixels of a grid's stages one after another, the smallest first, and the milliseconds that it took.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub async fn stages(&self, tokens: &[ImageToken]) -> Result<(Vec<u8>, f64), Failure> {
        self.check(tokens)?;
        let start = now();
        let stages =
            P::stages(&self.decoder, tokens, self.geometry.grid).await.map_err(|error| undecoded(&error))?;
        let mut rgba = Vec::new();
        stages.iter().for_each(|rgb| append_rgba(rgb, &mut rgba));
        Ok((rgba, now() - start))
    }

    fn check(&self, tokens: &[ImageToken]) -> Result<(), Failure> {
        let image_vocab = self.geometry.image_vocab;
        if tokens.len() != self.geometry.image_length() {
            let message = format!("expected {} tokens, got {}", self.geometry.image_length(), tokens.len());
            return Err(Failure::new(WorkerFailure::Fault, message));
        }
        if let Some(token) = tokens.iter().find(|token| usize::from(token.0) >= image_vocab) {
            let message = format!("token {} is not below the codebook's {image_vocab}", token.0);
            return Err(Failure::new(WorkerFailure::Fault, message));
        }
        Ok(())
    }
}

fn undecoded(error: &str) -> Failure {
    Failure::of_running(format!("the image could not be decoded: {error}"))
}
