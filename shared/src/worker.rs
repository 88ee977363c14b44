//! What the page's workers have in common: their programs, and the reports that each of them sends.

use serde::{Deserialize, Serialize};

/// A program of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerProgram {
    /// The decoder for the CPU, the small one.
    Cpu,
    /// The decoder for GPUs, the large one.
    Webgpu,
    /// The prior.
    Prior,
}

impl WorkerProgram {
    /// The name of its worker, by which `worker.js` knows what to download.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Webgpu => "webgpu",
            Self::Prior => "prior",
        }
    }
}

/// A report that every worker sends. [`DecoderReport`](crate::DecoderReport) and [`PriorReport`](crate::PriorReport) contain both
/// in the same JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerReport {
    /// Progress of a download.
    Progress {
        /// The file.
        part: WorkerPart,
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, if known.
        total: Option<u64>,
    },
    /// The worker has failed and accepts no more commands.
    Failed {
        /// The kind of failure, for the remedy.
        reason: WorkerFailure,
        /// What happened, in a sentence.
        message: String,
    },
}

/// A file that a worker downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerPart {
    /// The worker's own WebAssembly.
    Program,
    /// The weights of the decoder or the prior.
    Weights,
    /// The encoder's weights.
    Encoder,
}

/// Kinds of failure. Each has its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerFailure {
    /// A file could not be downloaded.
    Download,
    /// A file does not match the manifest.
    WrongFile,
    /// Not enough memory.
    Memory,
    /// WebGPU was chosen and does not work.
    Gpu,
    /// A bug in the program.
    Fault,
}
