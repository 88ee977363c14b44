//! The loop over the page's commands.

use dalle_shared::{DecoderCommand, DecoderReport, WorkerFailure};
use futures_util::StreamExt;
use wasm_bindgen::prelude::*;

use crate::failure::Failure;
use crate::loading::Loaded;
use crate::port::{commands, misread, send, send_failure, send_pixels};
use crate::probe::Adapter;
use crate::program::Program;

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
    let adapter: Option<Adapter> = serde_json::from_str(adapter).map_err(|error| misread(&error))?;
    let DecoderCommand::Load { base, files, device } =
        serde_json::from_str(first).map_err(|error| misread(&error))?
    else {
        return Err(Failure::new(WorkerFailure::Fault, "the first command of the page must name a model"));
    };
    let choice = P::choose(device, adapter.as_ref()).map_err(|why| Failure::new(WorkerFailure::Gpu, why))?;
    let mut loaded = Loaded::<P>::load(&base, &files, choice.device).await?;
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
        DecoderCommand::Stages { ticket, tokens } => {
            let (pixels, decode_ms) = loaded.stages(&tokens).await?;
            send_pixels(&DecoderReport::Pixels { ticket, decode_ms }, &pixels);
            Ok(())
        }
        DecoderCommand::Encode { ticket } => {
            match loaded.encoding.encode(&loaded.program, &attached).await? {
                Ok((tokens, square)) => send_pixels(&DecoderReport::Encoded { ticket, tokens }, &square),
                Err(message) => send(&DecoderReport::NotEncoded { ticket, message }),
            }
            Ok(())
        }
        DecoderCommand::Load { .. } => {
            Err(Failure::new(WorkerFailure::Fault, "a worker loads one model, and the page named a second"))
        }
    }
}
