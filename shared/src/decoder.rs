//! What the page and its decoder worker tell each other.
//!
//! A message is a two-element array `[json, attachment]`: the JSON of a [`DecoderCommand`] or [`DecoderReport`], and the
//! picture's file (a `Blob`) where the command is [`DecoderCommand::Encode`], an `ArrayBuffer` of pixels where the report is
//! [`DecoderReport::Pixels`], else null.

use serde::{Deserialize, Serialize};

use crate::{ImageToken, ModelFile};

/// Page to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecoderCommand {
    /// The first message, once: fetch, check and load the decoder of a model.
    Load {
        /// The backend's base address; empty means the page's own origin.
        backend: String,
        /// The manifest's files.
        files: Vec<ModelFile>,
        /// What to decode on.
        device: DeviceChoice,
    },
    /// Decode a whole grid of tokens. Answered by one [`DecoderReport::Pixels`] with the same ticket.
    Decode {
        /// Names the answer.
        ticket: u64,
        /// `grid²` tokens in raster order.
        tokens: Vec<ImageToken>,
    },
    /// Turn the attached picture into tokens, as large as the model's own: its middle, as a square. The encoder is fetched for
    /// the first one. Answered by one [`DecoderReport::Encoded`] or [`DecoderReport::NotEncoded`] with the same ticket.
    Encode {
        /// Names the answer.
        ticket: u64,
    },
}

/// Which device the worker may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A real GPU through WebGPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU with wasm SIMD.
    Cpu,
    /// WebGPU, even on a software adapter.
    Webgpu,
}

/// Worker to page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecoderReport {
    /// Bytes of a download so far.
    Progress {
        /// What is being fetched.
        part: DecoderPart,
        /// Bytes that came.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// The weights are there and the first decode begins, which may take long on a GPU: it compiles its shaders.
    Starting {
        /// What it will decode on.
        device: DecoderDevice,
    },
    /// The decoder answers [`DecoderCommand::Decode`] from now on.
    Ready {
        /// What it decodes on.
        device: DecoderDevice,
        /// Milliseconds of one full decode, measured just now.
        decode_ms: f64,
    },
    /// A decoded picture; the buffer holds `image_size² · 4` bytes, RGBA, row by row.
    Pixels {
        /// The ticket of the command.
        ticket: u64,
        /// Milliseconds it took.
        decode_ms: f64,
    },
    /// An encoded picture.
    Encoded {
        /// The ticket of the command.
        ticket: u64,
        /// `grid²` tokens in raster order.
        tokens: Vec<ImageToken>,
    },
    /// A picture that could not be encoded; the worker is as it was.
    NotEncoded {
        /// The ticket of the command.
        ticket: u64,
        /// What happened, in a sentence.
        message: String,
    },
    /// The worker is of no more use.
    Failed {
        /// What kind of failure, for the remedy.
        reason: DecoderFailure,
        /// What happened, in a sentence.
        message: String,
    },
}

/// What the worker downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderPart {
    /// The worker's own WebAssembly.
    Program,
    /// The decoder's weights.
    Weights,
    /// The encoder's weights.
    Encoder,
}

/// What the worker decodes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecoderDevice {
    /// WebGPU on this adapter.
    Webgpu {
        /// The adapter's name as far as the browser tells it.
        adapter: String,
    },
    /// The CPU with wasm SIMD.
    Cpu {
        /// Why not WebGPU.
        why: String,
    },
}

/// Kinds of failure, each with its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderFailure {
    /// A file did not come.
    Download,
    /// A file is not the one that the manifest describes.
    WrongFile,
    /// No memory for the decoder.
    Memory,
    /// WebGPU was demanded or chosen, and does not work.
    Gpu,
    /// A fault of the decoder.
    Fault,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `worker.js` writes these two by hand.
    #[test]
    fn reports_of_the_bootstrap_script_are_understood() {
        let progress: DecoderReport =
            serde_json::from_str(r#"{"type":"progress","part":"program","loaded":7,"total":null}"#).unwrap();
        assert_eq!(progress, DecoderReport::Progress { part: DecoderPart::Program, loaded: 7, total: None });
        let failed: DecoderReport =
            serde_json::from_str(r#"{"type":"failed","reason":"download","message":"m"}"#).unwrap();
        assert_eq!(failed, DecoderReport::Failed { reason: DecoderFailure::Download, message: "m".into() });
    }
}
