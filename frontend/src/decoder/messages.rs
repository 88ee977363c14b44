//! What [`Decoder::on`](super::Decoder::on) takes and returns, and the state that the page shows.

use dalle_shared::{DecoderDevice, DecoderReport, DeviceChoice, ImageToken, WorkerPart, WorkerProgram};

use crate::problem::Problem;

/// State of the decoder, as the page shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DecoderState {
    /// Waiting for the model's description.
    #[default]
    Waiting,
    /// Downloading.
    Loading {
        /// What.
        part: WorkerPart,
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// Decoding for the first time.
    Starting(DecoderDevice),
    /// Ready.
    Ready {
        /// What it decodes on.
        device: DecoderDevice,
        /// Milliseconds of the fastest decode: browsers run new code slowly at first.
        decode_ms: f64,
    },
    /// Failed.
    Failed(Problem),
}

/// Progress of an uploaded image towards its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The encoder is being downloaded.
    Fetching {
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// With the worker, or waiting for it.
    Encoding,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum DecoderInput {
    /// A worker is wanted, on this device.
    Start(DeviceChoice),
    /// A worker reports. `worker` is the number of [`DecoderEffect::StartWorker`] or [`DecoderEffect::StartGpu`].
    Report {
        /// Which worker.
        worker: u64,
        /// What it says.
        report: DecoderReport,
    },
    /// The time of an [`DecoderEffect::Wait`] is over.
    Elapsed(Timer),
    /// A new generation of `images` images of `rows` rows of tokens.
    Expect {
        /// Number of images.
        images: usize,
        /// Rows of each.
        rows: usize,
    },
    /// Complete rows of tokens of each image.
    Complete(Vec<usize>),
    /// So many rows of an image were decoded elsewhere.
    Given {
        /// Index of the image.
        image: usize,
        /// Its rows.
        rows: usize,
    },
    /// The images that are shown large.
    Enlarge(Vec<usize>),
    /// The tokens that the next images begin with; empty for none.
    Prefix(Vec<ImageToken>),
    /// A whole grid to decode beside the images. Takes the place of one of the same kind that is not decoded yet.
    Study(Study, Vec<ImageToken>),
    /// A person uploaded an image, to be encoded.
    Upload,
    /// The upload is no longer wanted.
    DropUpload,
}

/// What is decoded to explain an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Study {
    /// The image as it was when so many of its tokens were there.
    Moment(usize),
    /// The whole image.
    Whole,
    /// A person's image, from its tokens.
    Picture,
    /// The whole image with another token.
    Painted,
    /// What the decoder would paint after each of its groups, when so many of its tokens were there.
    Stages(usize),
    /// The same of the whole image with another token at a position.
    Changed(usize, ImageToken),
    /// A sheet of codebook entries, from this one on. Waits until there is nothing else to decode.
    Sheet(usize),
    /// An image of the history, by its name. Waits likewise.
    Kept(u64),
}

impl Study {
    /// Whether all stages of the decoder are wanted.
    pub fn has_stages(self) -> bool {
        matches!(self, Self::Stages(_) | Self::Changed(..))
    }

    /// Whether one takes the place of the other: they are of the same kind, or the same image of the history.
    pub fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Kept(one), Self::Kept(other)) => one == other,
            _ => std::mem::discriminant(&self) == std::mem::discriminant(&other),
        }
    }

    /// Whether it can wait until there is nothing else to decode.
    pub fn can_wait(self) -> bool {
        matches!(self, Self::Sheet(_) | Self::Kept(_))
    }
}

/// Which wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// For this worker's first decode on a GPU.
    Gpu {
        /// Which worker.
        worker: u64,
    },
    /// Of the decoder between two previews.
    Rest,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum DecoderEffect {
    /// Start a worker in place of all present ones. Its reports carry this number.
    StartWorker {
        /// Number of the worker.
        worker: u64,
        /// What it runs.
        program: WorkerProgram,
        /// Which device it may use.
        choice: DeviceChoice,
    },
    /// Start a worker with the program for GPUs beside the present one.
    StartGpu {
        /// Number of the worker.
        worker: u64,
    },
    /// The worker of [`DecoderEffect::StartGpu`] takes the place of the present one, which ends.
    UseGpu,
    /// End the worker of [`DecoderEffect::StartGpu`].
    EndGpu,
    /// End all workers.
    EndWorker,
    /// Decode an image as far as it is known.
    DecodeImage {
        /// Names the answer.
        ticket: u64,
        /// Index of the image.
        image: usize,
    },
    /// Decode the prefix.
    DecodePrefix {
        /// Names the answer.
        ticket: u64,
        /// Its tokens.
        tokens: Vec<ImageToken>,
    },
    /// Decode a grid of a study.
    DecodeStudy {
        /// Names the answer.
        ticket: u64,
        /// Whether all stages of the decoder are wanted.
        stages: bool,
        /// Its tokens.
        tokens: Vec<ImageToken>,
    },
    /// Encode the upload.
    Encode {
        /// Names the answer.
        ticket: u64,
    },
    /// Show the pixels that came with the report: so many rows of an image.
    ShowImage {
        /// Index of the image.
        image: usize,
        /// Rows of tokens that were complete.
        rows: usize,
    },
    /// Show the pixels that came with the report: the prefix.
    ShowPrefix,
    /// Show the pixels that came with the report: those of a study.
    ShowStudy(Study),
    /// The upload became these tokens.
    Encoded(Vec<ImageToken>),
    /// Send [`DecoderInput::Elapsed`] after so many milliseconds.
    Wait(Timer, f64),
    /// Tell the person.
    Notice(String),
}
