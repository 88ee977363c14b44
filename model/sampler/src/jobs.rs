//! Jobs that advance together on one prior.

use std::borrow::Cow;

use dalle_shared::{Geometry, ImageToken, TextToken, check_prefix, check_text};

use crate::choose::choose;
use crate::error::{NotFinite, SampleError};
use crate::network::Network;
use crate::philox::uniform;
use crate::request::{JobKey, SampleRequest, StepOutput};

/// Guided logits: `u + scale·(c − u)`, where `c` is conditional on the caption and `u` unconditional (Ho & Salimans, "Classifier-Free
/// Diffusion Guidance", applied to logits).
pub(crate) fn guided(captioned: &[f32], without: &[f32], scale: f32) -> Vec<f32> {
    captioned.iter().zip(without).map(|(c, u)| u + scale * (c - u)).collect()
}

/// What a [`Batch`](crate::Batch) does; see its methods of the same names.
pub(super) trait Sampling {
    fn rows(&self) -> usize;
    fn admit(&mut self, key: JobKey, request: SampleRequest) -> Result<(), SampleError>;
    fn remove(&mut self, key: JobKey);
    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError>;
}

/// A prior and the jobs it samples.
pub(super) struct Jobs<N: Network> {
    network: N,
    geometry: Geometry,
    jobs: Vec<Job<N::Cache>>,
}

struct Job<C> {
    key: JobKey,
    request: SampleRequest,
    /// Raster position of the next token.
    position: usize,
    /// The stream with the caption, and for guidance the one without.
    streams: Vec<Stream<C>>,
}

struct Stream<C> {
    cache: C,
    /// Logits of the next token: one row per sample, or a single row shared by all samples.
    logits: Vec<f32>,
}

impl<N: Network> Sampling for Jobs<N> {
    fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.request.rows()).sum()
    }

    fn admit(&mut self, key: JobKey, request: SampleRequest) -> Result<(), SampleError> {
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

    fn remove(&mut self, key: JobKey) {
        self.jobs.retain(|job| job.key != key);
    }

    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        let outputs = self.sample();
        let advanced = self.advance(&outputs);
        if advanced.is_err() {
            self.jobs.clear();
        }
        advanced.map(|()| outputs)
    }
}

impl<N: Network> Jobs<N> {
    /// No jobs.
    pub fn new(network: N) -> Self {
        Self { geometry: network.geometry(), network, jobs: Vec::new() }
    }

    fn stream(&self, request: &SampleRequest, text: &[TextToken]) -> Result<Stream<N::Cache>, SampleError> {
        let (cache, logits) = self.network.prefill(text, &request.prefix, request.samples)?;
        Ok(Stream { cache, logits })
    }

    fn check(&self, request: &SampleRequest) -> Result<(), SampleError> {
        if request.samples == 0 {
            return Err(SampleError::Request("samples: expected at least 1, got 0".to_owned()));
        }
        check_text(&request.text, &self.geometry)?;
        check_prefix(&request.prefix, &self.geometry)?;
        Ok(request.sampling.validate(self.geometry.image_vocab)?)
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
        let mut streams: Vec<&mut Stream<N::Cache>> =
            self.jobs.iter_mut().flat_map(|job| &mut job.streams).collect();
        if streams.is_empty() {
            return Ok(());
        }
        let mut caches: Vec<&mut N::Cache> = streams.iter_mut().map(|stream| &mut stream.cache).collect();
        let logits = self.network.step(&mut caches, &tokens)?;
        let mut rest = logits.as_slice();
        for stream in streams {
            let (own, others) = rest.split_at(N::samples(&stream.cache) * self.geometry.image_vocab);
            stream.logits = own.to_vec();
            rest = others;
        }
        Ok(())
    }
}

impl<C> Job<C> {
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

    /// The logits of a sample's next token.
    fn logits(&self, sample: usize, vocab: usize) -> Cow<'_, [f32]> {
        let row = |stream: &'_ Stream<C>| {
            let row = if stream.logits.len() == vocab { 0 } else { sample };
            row * vocab..(row + 1) * vocab
        };
        let captioned = &self.streams[0].logits[row(&self.streams[0])];
        match self.streams.get(1) {
            None => Cow::Borrowed(captioned),
            Some(stream) => {
                Cow::Owned(guided(captioned, &stream.logits[row(stream)], self.request.sampling.guidance))
            }
        }
    }

    /// The output of the next position.
    fn output(&mut self, tokens: Result<Vec<ImageToken>, NotFinite>) -> StepOutput {
        let position = self.position;
        self.position += 1;
        StepOutput { job: self.key, position, tokens }
    }
}
