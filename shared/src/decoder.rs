//! Messages between the page and its decoder workers.
//!
//! Such a worker runs [`WorkerProgram::Cpu`](crate::WorkerProgram) or `Webgpu`, which speak the same protocol.
//!
//! A message is a two-element array `[json, attachment]`: the JSON of a [`DecoderCommand`] or [`DecoderReport`], and with
//! [`DecoderCommand::Encode`] the image's file (a `Blob`), with [`DecoderReport::Pixels`] and [`DecoderReport::Encoded`] an
//! `ArrayBuffer` of pixels, else null.

use serde::{Deserialize, Serialize};

use crate::worker::{WorkerFailure, WorkerPart, WorkerReport};
use crate::{ImageToken, ModelFile};

/// Page to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecoderCommand {
    /// The first message: fetch, check and load the decoder of a model.
    Load {
        /// The base URL of the files.
        base: String,
        /// The manifest's files.
        files: Vec<ModelFile>,
        /// The device to decode on.
        device: DeviceChoice,
    },
    /// Decode a whole grid of tokens. Answered by one [`DecoderReport::Pixels`] with the same ticket.
    Decode {
        /// Identifies the report.
        ticket: u64,
        /// `grid²` tokens in raster order.
        tokens: Vec<ImageToken>,
    },
    /// Decode a whole grid of tokens, and say what the decoder would paint after each of its four groups if the later ones added
    /// nothing. Answered by one [`DecoderReport::Pixels`] with the same ticket.
    Stages {
        /// Identifies the report.
        ticket: u64,
        /// `grid²` tokens in raster order.
        tokens: Vec<ImageToken>,
    },
    /// Crop the attached image to its central square, resize it to the model's size and encode it. The encoder is fetched for the
    /// first one. Answered by one [`DecoderReport::Encoded`] or [`DecoderReport::NotEncoded`] with the same ticket.
    Encode {
        /// Identifies the report.
        ticket: u64,
    },
}

/// The devices that the worker may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A hardware GPU through WebGPU if there is one, else the CPU.
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
    /// Progress of a download.
    Progress {
        /// The file.
        part: WorkerPart,
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, if known.
        total: Option<u64>,
    },
    /// The weights are loaded and the first decode begins. It may take long on a GPU, which compiles shaders.
    Starting {
        /// The device it decodes on.
        device: DecoderDevice,
    },
    /// The decoder accepts [`DecoderCommand::Decode`] from now on.
    Ready {
        /// The device it decodes on.
        device: DecoderDevice,
        /// Measured milliseconds of one decode.
        decode_ms: f64,
    },
    /// The program for the CPU found a GPU: the program for GPUs may decode faster. Sent once, after [`DecoderReport::Ready`].
    GpuFound,
    /// A decoded image; the buffer holds `image_size² · 4` bytes, RGBA in raster order. For [`DecoderCommand::Stages`] it holds four
    /// images, the smallest first: of `grid` pixels along a side and twice, four times and eight times as many.
    Pixels {
        /// The ticket of the command.
        ticket: u64,
        /// Milliseconds it took.
        decode_ms: f64,
    },
    /// An encoded image; the buffer holds the square that was encoded, `image_size² · 4` bytes, RGBA in raster order.
    Encoded {
        /// The ticket of the command.
        ticket: u64,
        /// `grid²` tokens in raster order.
        tokens: Vec<ImageToken>,
    },
    /// An image that could not be encoded. The worker continues.
    NotEncoded {
        /// The ticket of the command.
        ticket: u64,
        /// What happened, in a sentence.
        message: String,
    },
    /// The worker has failed and accepts no more commands.
    Failed {
        /// The kind of failure, for the remedy.
        reason: WorkerFailure,
        /// What happened, in a sentence.
        message: String,
    },
}

/// The device that the worker decodes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecoderDevice {
    /// WebGPU on this adapter.
    Webgpu {
        /// The adapter's name, as far as the browser states it.
        adapter: String,
    },
    /// The CPU with wasm SIMD.
    Cpu {
        /// Why WebGPU is not used.
        why: String,
    },
}

impl From<WorkerReport> for DecoderReport {
    fn from(report: WorkerReport) -> Self {
        match report {
            WorkerReport::Progress { part, loaded, total } => Self::Progress { part, loaded, total },
            WorkerReport::Failed { reason, message } => Self::Failed { reason, message },
        }
    }
}
