//! The interface of a decoder program.

use dalle_files::config::DvaeConfig;
use dalle_files::tensors::WeightsError;
use dalle_shared::{DeviceChoice, ImageToken};

use crate::failure::Failure;
use crate::probe::{Adapter, Choice};

/// A program that decodes and encodes: its networks, and the device that they run on.
#[allow(async_fn_in_trait, reason = "a worker has one thread")]
pub trait Program: Sized {
    /// The dVAE's decoder.
    type Decoder;
    /// The dVAE's encoder.
    type Encoder;

    /// What the program decodes on.
    ///
    /// # Errors
    /// The reason why it cannot decode here, as a clause.
    fn choose(choice: DeviceChoice, adapter: Option<&Adapter>) -> Result<Choice, String>;

    /// Opens the device.
    ///
    /// # Errors
    /// The device fails.
    async fn open() -> Result<Self, Failure>;

    /// The decoder with the weights of a safetensors file.
    ///
    /// # Errors
    /// The file does not fit the configuration.
    fn decoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Self::Decoder, WeightsError>;

    /// The encoder with the weights of a safetensors file.
    ///
    /// # Errors
    /// The file does not fit the configuration.
    fn encoder(&self, config: &DvaeConfig, file: &[u8]) -> Result<Self::Encoder, WeightsError>;

    /// RGB8 pixels of a grid of tokens of the codebook, rows of `width` tokens.
    ///
    /// # Errors
    /// The device fails.
    async fn decode(decoder: &Self::Decoder, tokens: &[ImageToken], width: usize) -> Result<Vec<u8>, String>;

    /// What the decoder would paint after each of its groups if the later ones added nothing: RGB8 of one, two, four and eight times
    /// as many rows and columns as the grid has. The last is the image.
    ///
    /// # Errors
    /// The device fails.
    async fn stages(
        decoder: &Self::Decoder,
        tokens: &[ImageToken],
        width: usize,
    ) -> Result<Vec<Vec<u8>>, String>;

    /// The tokens of RGB8 pixels, rows of `width` pixels, both sides multiples of 8.
    ///
    /// # Errors
    /// The device fails.
    async fn encode(encoder: &Self::Encoder, rgb: &[u8], width: usize) -> Result<Vec<ImageToken>, String>;
}
