//! The one sampling loop, for the command line, the server and evaluation alike.
//!
//! A [`Batch`] advances any number of jobs together by one token a [`step`](Batch::step). Jobs join and leave between steps
//! (continuous batching), without moving one another's caches; what a job draws does not depend on its neighbours.
//!
//! ```text
//! let mut batch = Batch::new(prior, &config);
//! batch.admit(key, request)?;
//! while !batch.is_empty() { for out in batch.step()? { … } }
//! ```

mod choose;
mod philox;
mod text;

use std::borrow::Cow;

use burn::tensor::Tensor;
use dalle_shared::{Geometry, ImageToken, SamplingSettings, TextToken, check_prefix, check_text};

pub use choose::choose;
pub use philox::uniform;
pub use text::continue_caption;

use crate::clip::ScoreError;
use crate::config::ModelConfig;
use crate::prior::{Cache, Masks, Prior};

/// The caller's name for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub u64);

/// What to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRequest {
    /// Caption ids without padding, at most `text_length − 1`.
    pub text: Vec<TextToken>,
    /// Pictures of that caption, drawn side by side.
    pub samples: usize,
    /// Seed of the first; the next has the next seed, so that each can be drawn again alone.
    pub seed: u64,
    /// Temperature, top-k and top-p.
    pub sampling: SamplingSettings,
    /// Tokens that every picture begins with, given instead of drawn (section 3.3).
    pub prefix: Vec<ImageToken>,
}

impl SampleRequest {
    /// Rows that the prior computes for it: guidance needs each sample a second time, without its caption.
    pub fn rows(&self) -> usize {
        if self.sampling.is_guided() { 2 * self.samples } else { self.samples }
    }
}

/// One position of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutput {
    /// The job.
    pub job: JobKey,
    /// Raster position.
    pub position: usize,
    /// The token of each sample.
    pub tokens: Vec<ImageToken>,
}

/// A request that does not fit the model, or a model that gives no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A request out of range.
    #[error("{0}")]
    Request(String),
    /// The device could not run or be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// NaN or infinite logits: damaged weights, or overflow in 16 bits.
    #[error(
        "the prior gave logits that are no numbers at position {position}; its weights are damaged or overflow"
    )]
    NotFinite {
        /// Raster position.
        position: usize,
    },
    /// Pictures that cannot be scored.
    #[error(transparent)]
    Score(ScoreError),
}

/// A running batch: the prior and its jobs.
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
    /// The stream with the caption and, for guidance, the one without.
    streams: Vec<Stream>,
}

struct Stream {
    cache: Cache,
    /// Logits of the next token: one row for each sample, or a single row shared by all of them.
    logits: Vec<f32>,
}

impl Batch {
    /// An empty batch.
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        let masks = Masks::new(config, &prior.device());
        Self { prior, masks, geometry: config.geometry(), jobs: Vec::new() }
    }

    /// Rows running, see [`SampleRequest::rows`].
    pub fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.request.rows()).sum()
    }

    /// Whether no job runs.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes a job in: runs its caption, and the tokens that are given, once, whatever the number of samples.
    ///
    /// # Errors
    /// [`SampleError::Request`] for a request out of range; then nothing has changed.
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
        let (cache, logits) = self.prior.prefill(&self.masks, text, &request.prefix);
        Ok(Stream { cache: cache.repeat(request.samples), logits: read(logits)? })
    }

    fn check(&self, request: &SampleRequest) -> Result<(), SampleError> {
        if request.samples == 0 {
            return Err(SampleError::Request("samples: expected at least 1, got 0".to_owned()));
        }
        check_text(&request.text, &self.geometry)
            .and_then(|()| check_prefix(&request.prefix, &self.geometry))
            .and_then(|()| request.sampling.validate(self.geometry.image_vocab))
            .map_err(|error| SampleError::Request(error.to_string()))
    }

    /// Drops a job, if it still runs. The others are not disturbed.
    pub fn remove(&mut self, key: JobKey) {
        self.jobs.retain(|job| job.key != key);
    }

    /// Draws the next token of every sample of every job; the first time, the tokens that are given come before it. Jobs whose
    /// images are complete leave the batch.
    ///
    /// # Errors
    /// [`SampleError::Device`] or [`SampleError::NotFinite`]; the batch is then empty.
    pub fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let outputs = self.draw().and_then(|outputs| {
            let last = self.geometry.image_length();
            self.jobs.retain(|job| job.position < last);
            self.advance(&outputs)?;
            Ok(outputs)
        });
        if outputs.is_err() {
            self.jobs.clear();
        }
        outputs
    }

    fn draw(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let (length, vocab) = (self.geometry.image_length(), self.geometry.image_vocab);
        let mut outputs = Vec::with_capacity(self.jobs.len());
        for job in &mut self.jobs {
            while job.position < job.request.prefix.len() {
                let token = job.request.prefix[job.position];
                outputs.push(job.output(vec![token; job.request.samples]));
            }
            if job.position < length {
                let tokens = job.draw(vocab)?;
                outputs.push(job.output(tokens));
            }
        }
        Ok(outputs)
    }

    /// Runs the tokens just drawn through the prior, for the logits of the next ones.
    fn advance(&mut self, outputs: &[StepOutput]) -> Result<(), SampleError> {
        let mut tokens = Vec::new();
        for job in &self.jobs {
            let output = outputs.iter().rfind(|output| output.job == job.key);
            let output = output.expect("every job that stays has just drawn");
            for _ in &job.streams {
                tokens.extend(&output.tokens);
            }
        }
        let mut streams: Vec<&mut Stream> = self.jobs.iter_mut().flat_map(|job| &mut job.streams).collect();
        if streams.is_empty() {
            return Ok(());
        }
        let mut caches: Vec<&mut Cache> = streams.iter_mut().map(|stream| &mut stream.cache).collect();
        let logits = read(self.prior.step(&mut caches, &tokens))?;
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
    fn draw(&self, vocab: usize) -> Result<Vec<ImageToken>, SampleError> {
        let SampleRequest { samples, seed, ref sampling, .. } = self.request;
        let position = self.position;
        let draw = |sample| {
            let logits = self.logits(sample, vocab);
            choose(&logits, sampling, uniform(seed.wrapping_add(sample as u64), 0, position as u64))
                .and_then(|index| u16::try_from(index).ok().map(ImageToken))
                .ok_or(SampleError::NotFinite { position })
        };
        (0..samples).map(draw).collect()
    }

    /// The logits of a sample's next token: c, or with guidance u + scale·(c − u), where c knows the caption and u does not
    /// (Ho & Salimans, "Classifier-Free Diffusion Guidance", on logits instead of scores).
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

    /// Takes note of the tokens of the next position.
    fn output(&mut self, tokens: Vec<ImageToken>) -> StepOutput {
        let position = self.position;
        self.position += 1;
        StepOutput { job: self.key, position, tokens }
    }
}

/// Logits to the host, in f32.
fn read(logits: Tensor<2>) -> Result<Vec<f32>, SampleError> {
    logits.try_into_vec_as::<f32>().map_err(|error| SampleError::Device(error.to_string()))
}
