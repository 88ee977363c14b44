//! The sampling loop of the command line, the server and evaluation.
//!
//! A [`Batch`] advances any number of jobs together, one token per [`step`](Batch::step). Jobs join and leave between steps
//! (continuous batching). A job's tokens do not depend on the other jobs or their errors.
//!
//! ```
//! use dalle_model::Device;
//! use dalle_model::prior::Prior;
//! use dalle_model::sample::{Batch, JobKey, SampleRequest};
//! use dalle_shared::{SamplingSettings, TextToken};
//!
//! let config = serde_json::from_str(include_str!("../../../configs/tiny.json"))?;
//! let mut batch = Batch::new(Prior::new(&config, &Device::flex()), &config);
//! let request = SampleRequest {
//!     text: vec![TextToken(1), TextToken(2)],
//!     samples: 2,
//!     seed: 7,
//!     sampling: SamplingSettings::default(),
//!     prefix: Vec::new(),
//! };
//! batch.admit(JobKey(0), request)?;
//! let mut images = vec![Vec::new(); 2];
//! while !batch.is_empty() {
//!     for output in batch.step()? {
//!         // An error here concerns only this job.
//!         for (image, token) in images.iter_mut().zip(output.tokens?) {
//!             image.push(token);
//!         }
//!     }
//! }
//! assert!(images.iter().all(|image| image.len() == config.geometry().image_length()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choose;
mod philox;
mod text;

use std::borrow::Cow;

use burn::tensor::Tensor;
use dalle_shared::{
    Geometry, ImageToken, RequestError, SamplingSettings, TextToken, check_prefix, check_text,
};

pub use choose::choose;
pub use philox::uniform;
pub use text::continue_caption;

use crate::config::ModelConfig;
use crate::prior::{Cache, Masks, Prior};

/// The caller's identifier of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub u64);

/// A caption and how to sample images from it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRequest {
    /// Caption ids without padding, at most `text_length − 1`.
    pub text: Vec<TextToken>,
    /// Number of images of that caption.
    pub samples: usize,
    /// Seed of the first sample; sample `s` has the seed `seed + s` (wrapping), so that each can be sampled again alone.
    pub seed: u64,
    /// Temperature, top-k, top-p and guidance.
    pub sampling: SamplingSettings,
    /// Tokens that every image begins with, in raster order (section 3.3).
    pub prefix: Vec<ImageToken>,
}

impl SampleRequest {
    /// Number of batch rows that the request takes: one per sample, or two with guidance (with and without the caption).
    pub fn rows(&self) -> usize {
        if self.sampling.is_guided() { 2 * self.samples } else { self.samples }
    }
}

/// The result of one position of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutput {
    /// The job.
    pub job: JobKey,
    /// Raster position.
    pub position: usize,
    /// One token per sample, or the reason why the job left the batch.
    pub tokens: Result<Vec<ImageToken>, NotFinite>,
}

/// NaN or infinite logits: the weights are damaged, or the prior overflows on this job's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prior produced NaN or infinite logits at position {position}; its weights are damaged, or it overflows (in 16 bits, \
     try --dtype f32)"
)]
pub struct NotFinite {
    /// Raster position; in caption sampling, the index of the id.
    pub position: usize,
}

/// A request that does not fit the model, or a failed device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A field of the request is out of range.
    #[error("{0}")]
    Request(String),
    /// The device could not compute, or its memory could not be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// Caption sampling produced NaN or infinite logits.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

impl From<RequestError> for SampleError {
    fn from(error: RequestError) -> Self {
        Self::Request(error.to_string())
    }
}

/// The prior and the jobs it is sampling.
pub struct Batch {
    prior: Prior,
    masks: Masks,
    geometry: Geometry,
    jobs: Vec<Job>,
}

struct Job {
    key: JobKey,
    request: SampleRequest,
    /// Raster position of the next token.
    position: usize,
    /// The stream with the caption, and for guidance the one without.
    streams: Vec<Stream>,
}

struct Stream {
    cache: Cache,
    /// Logits of the next token: one row per sample, or a single row shared by all samples.
    logits: Vec<f32>,
}

impl Batch {
    /// An empty batch.
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        let masks = Masks::new(config, &prior.device());
        Self { prior, masks, geometry: config.geometry(), jobs: Vec::new() }
    }

    /// Number of rows in the batch, see [`SampleRequest::rows`].
    pub fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.request.rows()).sum()
    }

    /// Whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Adds a job. Its caption and prefix run through the prior once, for all samples.
    ///
    /// # Errors
    /// [`SampleError::Request`] for a request out of range, [`SampleError::Device`]. The batch is then unchanged.
    pub fn admit(&mut self, key: JobKey, request: SampleRequest) -> Result<(), SampleError> {
        self.check(&request)?;
        let mut streams = Vec::new();
        if request.prefix.len() < self.geometry.image_length() {
            streams.push(self.stream(&request, &request.text)?);
            if request.sampling.is_guided() {
                streams.push(self.stream(&request, &[])?);
            }
        }
        self.jobs.push(Job { key, request, position: 0, streams });
        Ok(())
    }

    fn stream(&self, request: &SampleRequest, text: &[TextToken]) -> Result<Stream, SampleError> {
        let (cache, logits) = self.prior.prefill(&self.masks, text, &request.prefix)?;
        Ok(Stream { cache: cache.repeat(request.samples), logits: read(logits)? })
    }

    fn check(&self, request: &SampleRequest) -> Result<(), SampleError> {
        if request.samples == 0 {
            return Err(SampleError::Request("samples: expected at least 1, got 0".to_owned()));
        }
        check_text(&request.text, &self.geometry)?;
        check_prefix(&request.prefix, &self.geometry)?;
        Ok(request.sampling.validate(self.geometry.image_vocab)?)
    }

    /// Drops a job. Does nothing if it has left the batch.
    pub fn remove(&mut self, key: JobKey) {
        self.jobs.retain(|job| job.key != key);
    }

    /// Samples the next token of every sample of every job. A job's first step also returns its prefix, one output per position.
    ///
    /// A job leaves the batch when its images are complete, or with an error output if its logits are not finite. The other jobs
    /// continue.
    ///
    /// # Errors
    /// [`SampleError::Device`]. The batch is then empty.
    pub fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let outputs = self.sample();
        let advanced = self.advance(&outputs);
        if advanced.is_err() {
            self.jobs.clear();
        }
        advanced.map(|()| outputs)
    }

    /// The next outputs of every job, from the logits of the previous step. Complete and failed jobs are removed.
    fn sample(&mut self) -> Vec<StepOutput> {
        let (length, vocab) = (self.geometry.image_length(), self.geometry.image_vocab);
        let mut outputs = Vec::with_capacity(self.jobs.len());
        self.jobs.retain_mut(|job| {
            while let Some(&token) = job.request.prefix.get(job.position) {
                outputs.push(job.output(Ok(vec![token; job.request.samples])));
            }
            let mut finite = true;
            if job.position < length {
                let tokens = job.sample(vocab);
                finite = tokens.is_ok();
                outputs.push(job.output(tokens));
            }
            finite && job.position < length
        });
        outputs
    }

    /// Runs the sampled tokens through the prior, for the logits of the next ones.
    fn advance(&mut self, outputs: &[StepOutput]) -> Result<(), SampleError> {
        let mut tokens = Vec::new();
        for job in &self.jobs {
            let output = outputs.iter().rfind(|output| output.job == job.key);
            let last = output.and_then(|output| output.tokens.as_ref().ok());
            let last = last.expect("every remaining job has just sampled");
            for _ in &job.streams {
                tokens.extend(last);
            }
        }
        let mut streams: Vec<&mut Stream> = self.jobs.iter_mut().flat_map(|job| &mut job.streams).collect();
        if streams.is_empty() {
            return Ok(());
        }
        let mut caches: Vec<&mut Cache> = streams.iter_mut().map(|stream| &mut stream.cache).collect();
        let logits = read(self.prior.step(&mut caches, &tokens)?)?;
        let mut rest = logits.as_slice();
        for stream in streams {
            let (own, others) = rest.split_at(stream.cache.samples() * self.geometry.image_vocab);
            stream.logits = own.to_vec();
            rest = others;
        }
        Ok(())
    }
}

impl Job {
    /// The next token of each sample.
    fn sample(&self, vocab: usize) -> Result<Vec<ImageToken>, NotFinite> {
        let SampleRequest { samples, seed, ref sampling, .. } = self.request;
        let position = self.position;
        let token = |sample| {
            let logits = self.logits(sample, vocab);
            choose(&logits, sampling, uniform(seed.wrapping_add(sample as u64), 0, position as u64))
                .and_then(|index| u16::try_from(index).ok().map(ImageToken))
                .ok_or(NotFinite { position })
        };
        (0..samples).map(token).collect()
    }

    /// The logits of a sample's next token: `c`, or with guidance `u + scale·(c − u)`, where `c` is conditional on the caption and
    /// `u` unconditional (Ho & Salimans, "Classifier-Free Diffusion Guidance", applied to logits).
    fn logits(&self, sample: usize, vocab: usize) -> Cow<'_, [f32]> {
        let row = |stream: &'_ Stream| {
            let row = if stream.logits.len() == vocab { 0 } else { sample };
            row * vocab..(row + 1) * vocab
        };
        let captioned = &self.streams[0].logits[row(&self.streams[0])];
        let Some(stream) = self.streams.get(1) else { return Cow::Borrowed(captioned) };
        let scale = self.request.sampling.guidance;
        let without = &stream.logits[row(stream)];
        Cow::Owned(captioned.iter().zip(without).map(|(c, u)| u + scale * (c - u)).collect())
    }

    /// The output of the next position.
    fn output(&mut self, tokens: Result<Vec<ImageToken>, NotFinite>) -> StepOutput {
        let position = self.position;
        self.position += 1;
        StepOutput { job: self.key, position, tokens }
    }
}

/// Copies logits to the host, in f32.
fn read(logits: Tensor<2>) -> Result<Vec<f32>, SampleError> {
    logits.try_into_vec_as::<f32>().map_err(|error| SampleError::Device(error.to_string()))
}
