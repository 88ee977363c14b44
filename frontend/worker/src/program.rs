//! The loop over the page's commands, and what a program provides for it.

use dalle_files::config::DvaeConfig;
use dalle_files::tensors::WeightsError;
use dalle_shared::{DecoderCommand, DecoderFailure, DecoderReport, DeviceChoice, ImageToken};
use futures_util::StreamExt;
use wasm_bindgen::prelude::*;

use crate::failure::Failure;
use crate::loading::Loaded;
use crate::port::{commands, send, send_failure, send_pixels};
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
    /// It cannot decode here, in a clause.
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

    /// The tokens of RGB8 pixels, rows of `width` pixels, both sides multiples of 8.
    ///
    /// # Errors
    /// The device fails.
    async fn encode(encoder: &Self::Encoder, rgb: &[u8], width: usize) -> Result<Vec<ImageToken>, String>;
}

/// Answers the page's commands until the page ends the worker.
///
/// `first` is the JSON of the page's [`DecoderCommand::Load`], `adapter` that of an [`Adapter`] or `null`.
pub async fn run<P: Program>(first: &str, adapter: &str) {
    // A panic ends this worker.
    std::panic::set_hook(Box::new(|info| send_failure(Failure::of_panic(info.to_string()))));
    if let Err(failure) = serve::<P>(first, adapter).await {
        send_failure(failure);
    }
}

async fn serve<P: Program>(first: &str, adapter: &str) -> Result<(), Failure> {
    let mut commands = commands();
    let misunderstood = |error: serde_json::Error| {
        Failure::new(
            DecoderFailure::Fault,
            format!("the decoder could not read a command of the page: {error}"),
        )
    };
    let adapter: Option<Adapter> = serde_json::from_str(adapter).map_err(misunderstood)?;
    let DecoderCommand::Load { backend, files, device } =
        serde_json::from_str(first).map_err(misunderstood)?
    else {
        return Err(Failure::new(DecoderFailure::Fault, "the first command of the page must name a model"));
    };
    let choice = P::choose(device, adapter.as_ref()).map_err(|why| Failure::new(DecoderFailure::Gpu, why))?;
    let mut loaded = Loaded::<P>::load(&backend, &files, choice.device).await?;
    if choice.gpu {
        send(&DecoderReport::GpuFound);
    }
    while let Some((command, attached)) = commands.next().await {
        answer(&mut loaded, command, attached).await?;
    }
    Ok(())
}

async fn answer<P: Program>(
    loaded: &mut Loaded<P>,
    command: DecoderCommand,
    attached: JsValue,
) -> Result<(), Failure> {
    match command {
        DecoderCommand::Decode { ticket, tokens } => {
            let (pixels, decode_ms) = loaded.decode(&tokens).await?;
            send_pixels(&DecoderReport::Pixels { ticket, decode_ms }, &pixels);
            Ok(())
        }
        DecoderCommand::Encode { ticket } => {
            send(&match loaded.encoding.encode(&loaded.program, &attached).await? {
                Ok(tokens) => DecoderReport::Encoded { ticket, tokens },
                Err(message) => DecoderReport::NotEncoded { ticket, message },
            });
            Ok(())
        }
        DecoderCommand::Load { .. } => {
            Err(Failure::new(DecoderFailure::Fault, "a worker loads one model, and the page named a second"))
        }
    }
}
