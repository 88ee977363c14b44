//! The one sampling loop, for the command line, the server and evaluation alike.
//!
//! A [`Batch`] advances any number of jobs together by one token a [`step`](Batch::step). Jobs join and leave between steps
//! (continuous batching); what a job draws does not depend on its neighbours.
//!
//! ```text
//! let mut batch = Batch::new(prior, &config);
//! batch.admit(key, request)?;
//! while !batch.is_empty() { for out in batch.step()? { … } }
//! ```

mod choose;
mod philox;

use burn::tensor::{Int, Tensor, TensorData};
use dalle_shared::{Geometry, ImageToken, SamplingSettings, TextToken};

pub use choose::choose;
pub use philox::uniform;

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
    /// Seed of all of them.
    pub seed: u64,
    /// Temperature, top-k and top-p.
    pub sampling: SamplingSettings,
    /// Tokens that every picture begins with, given instead of drawn (section 3.3).
    pub prefix: Vec<ImageToken>,
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
}

/// A running batch: the prior, its cache, and the jobs that share them.
pub struct Batch {
    prior: Prior,
    masks: Masks,
    geometry: Geometry,
    /// Rows of all jobs in the order of `jobs`; `None` while there are none.
    cache: Option<Cache>,
    jobs: Vec<Job>,
}

struct Job {
    key: JobKey,
    request: SampleRequest,
    /// Raster position of the next token.
    position: usize,
    /// Logits of the next token: one row for each sample, or a single row shared by all of them.
    logits: Vec<f32>,
}

impl Batch {
    /// An empty batch.
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        let masks = Masks::new(config, &prior.device());
        Self { prior, masks, geometry: config.geometry(), cache: None, jobs: Vec::new() }
    }

    /// Rows running: the samples of all jobs.
    pub fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.request.samples).sum()
    }

    /// Whether no job runs.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes a job in: runs its caption once, whatever the number of samples.
    ///
    /// # Errors
    /// [`SampleError::Request`] for a request out of range; then nothing has changed.
    pub fn admit(&mut self, key: JobKey, request: SampleRequest) -> Result<(), SampleError> {
        self.check(&request)?;
        let (cache, logits) = self.prior.prefill(&self.masks, &[&request.text]);
        let logits = read(logits)?;
        let cache = cache.repeat(request.samples);
        self.cache = Some(match self.cache.take() {
            Some(running) => running.join(cache),
            None => cache,
        });
        self.jobs.push(Job { key, request, position: 0, logits });
        Ok(())
    }

    fn check(&self, request: &SampleRequest) -> Result<(), SampleError> {
        let Geometry { text_length, text_vocab, image_vocab, .. } = self.geometry;
        let refuse = |message: String| Err(SampleError::Request(message));
        if request.text.len() >= text_length {
            return refuse(format!(
                "expected at most {} text ids, got {}",
                text_length - 1,
                request.text.len()
            ));
        }
        if let Some(id) = request.text.iter().find(|id| id.0 as usize >= text_vocab) {
            return refuse(format!("text id {} is not below the vocabulary's {text_vocab}", id.0));
        }
        if let Some(token) = request.prefix.iter().find(|token| usize::from(token.0) >= image_vocab) {
            return refuse(format!("image token {} is not below the codebook's {image_vocab}", token.0));
        }
        if request.prefix.len() > self.geometry.image_length() {
            return refuse(format!(
                "expected at most {} given image tokens, got {}",
                self.geometry.image_length(),
                request.prefix.len()
            ));
        }
        if request.samples == 0 {
            return refuse("expected at least one sample".to_owned());
        }
        request.sampling.validate(image_vocab).map_err(|error| SampleError::Request(error.to_string()))
    }

    /// Drops a job, if it still runs. The others are not disturbed.
    pub fn remove(&mut self, key: JobKey) {
        self.retain(|job| job.key != key);
    }

    /// Draws the next token of every sample of every job. Jobs whose images are complete leave the batch.
    ///
    /// # Errors
    /// [`SampleError::Device`] or [`SampleError::NotFinite`]; the batch is then empty.
    pub fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let outputs = self.draw().and_then(|outputs| {
            let last = self.geometry.image_length();
            self.retain(|job| job.position < last);
            self.advance(&outputs)?;
            Ok(outputs)
        });
        if outputs.is_err() {
            self.retain(|_| false);
        }
        outputs
    }

    fn draw(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let vocab = self.geometry.image_vocab;
        self.jobs.iter_mut().map(|job| job.draw(vocab)).collect()
    }

    /// Runs the tokens just drawn through the prior, for the logits of the next ones.
    fn advance(&mut self, outputs: &[StepOutput]) -> Result<(), SampleError> {
        let Some(cache) = &mut self.cache else { return Ok(()) };
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        for job in &self.jobs {
            let output = outputs.iter().find(|output| output.job == job.key);
            let output = output.expect("every job that stays has just drawn");
            tokens.extend(&output.tokens);
            positions.extend(vec![output.position; output.tokens.len()]);
        }
        let logits = read(self.prior.step(&self.masks, cache, &tokens, &positions))?;
        let mut rest = logits.as_slice();
        for job in &mut self.jobs {
            let (own, others) = rest.split_at(job.request.samples * self.geometry.image_vocab);
            job.logits = own.to_vec();
            rest = others;
        }
        Ok(())
    }

    fn retain(&mut self, keep: impl Fn(&Job) -> bool) {
        if self.jobs.iter().all(&keep) {
            return;
        }
        let (mut row, mut kept) = (0, Vec::new());
        for job in &self.jobs {
            let rows = row..row + job.request.samples as i64;
            row = rows.end;
            if keep(job) {
                kept.extend(rows);
            }
        }
        self.jobs.retain(keep);
        self.cache = self.cache.take().filter(|_| !kept.is_empty()).map(|cache| {
            let count = kept.len();
            let rows: Tensor<1, Int> =
                Tensor::from_data(TensorData::new(kept, [count]), &self.prior.device());
            cache.select(&rows)
        });
    }
}

impl Job {
    fn draw(&mut self, vocab: usize) -> Result<StepOutput, SampleError> {
        let SampleRequest { samples, seed, ref sampling, ref prefix, .. } = self.request;
        let position = self.position;
        let shared = self.logits.len() == vocab;
        let tokens = (0..samples)
            .map(|sample| {
                if let Some(&given) = prefix.get(position) {
                    return Ok(given);
                }
                let row = if shared { 0 } else { sample };
                let logits = &self.logits[row * vocab..(row + 1) * vocab];
                choose(logits, sampling, uniform(seed, sample as u64, position as u64))
                    .ok_or(SampleError::NotFinite { position })
            })
            .collect::<Result<_, _>>()?;
        self.position += 1;
        Ok(StepOutput { job: self.key, position, tokens })
    }
}

/// Logits to the host, in f32.
fn read(logits: Tensor<2>) -> Result<Vec<f32>, SampleError> {
    logits.try_into_vec_as::<f32>().map_err(|error| SampleError::Device(error.to_string()))
}
