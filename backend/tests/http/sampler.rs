//! A test sampler. Its tokens are a hash of their inputs, and its activity can be observed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use dalle_backend::{EncodeError, Sampler};
use dalle_model::clip::ScoreError;
use dalle_model::dvae::DecodeError;
use dalle_model::sample::{JobKey, NotFinite, SampleError, SampleRequest, StepOutput};
use dalle_shared::{Geometry, ImageToken, TextToken, sha256_hex};

/// The geometry of the test model.
pub const GEOMETRY: Geometry =
    Geometry { text_length: 16, text_vocab: 259, grid: 8, image_vocab: 4096, image_size: 64 };

/// The token for a caption, a seed, a sample and a position.
pub fn token(text: &[TextToken], seed: u64, sample: usize, position: usize) -> ImageToken {
    let hash = sha256_hex(format!("{text:?} {seed} {sample} {position}").as_bytes());
    ImageToken(u16::from_str_radix(&hash[..3], 16).unwrap())
}

/// The score of an image, complete or not.
pub fn score(tokens: &[ImageToken]) -> f32 {
    tokens.iter().map(|token| f32::from(token.0)).sum::<f32>() / (4096.0 * tokens.len() as f32)
}

/// The pixels that tokens decode to: an 8×8 square of one colour per token.
pub fn pixels(tokens: &[ImageToken]) -> Vec<u8> {
    let side = GEOMETRY.image_size;
    let colour = |x: usize, y: usize| {
        let token = tokens[y / 8 * GEOMETRY.grid + x / 8].0;
        [(token >> 8) as u8, token as u8, 255 - token as u8]
    };
    (0..side * side).flat_map(|i| colour(i % side, i / side)).collect()
}

/// The sampler's activity, for tests to observe.
#[derive(Default)]
pub struct Probe {
    pub rows: AtomicUsize,
    pub most_rows: AtomicUsize,
    pub steps: AtomicUsize,
}

/// The sampler's behaviour.
#[derive(Clone, Default)]
pub struct Behaviour {
    pub step_time: Duration,
    pub score_time: Duration,
    /// The sampler panics at this step. Steps are counted from 1; the first one is the warm-up.
    pub panics_at_step: Option<usize>,
    /// The logits of every job are NaN at this step.
    pub nan_at_step: Option<usize>,
    /// The logits of requests for this many samples are NaN from the second token on.
    pub nan_for_samples: Option<usize>,
    /// One step, and by how much longer it takes.
    pub hangs_at_step: Option<(usize, Duration)>,
    /// Requests for this many samples are refused.
    pub refuses_samples: Option<usize>,
}

pub struct TestSampler {
    pub probe: Arc<Probe>,
    pub behaviour: Behaviour,
    jobs: Vec<(JobKey, SampleRequest, usize)>,
}

impl TestSampler {
    pub fn new(probe: Arc<Probe>, behaviour: Behaviour) -> Self {
        Self { probe, behaviour, jobs: Vec::new() }
    }

    fn count(&self) {
        self.probe.rows.store(self.rows(), SeqCst);
        self.probe.most_rows.fetch_max(self.rows(), SeqCst);
    }
}

impl Sampler for TestSampler {
    fn admit(&mut self, job: JobKey, request: SampleRequest) -> Result<(), SampleError> {
        if self.behaviour.refuses_samples == Some(request.samples) {
            return Err(SampleError::Request("refused by the test".to_owned()));
        }
        self.jobs.push((job, request, 0));
        self.count();
        Ok(())
    }

    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        std::thread::sleep(self.behaviour.step_time);
        let step = self.probe.steps.fetch_add(1, SeqCst) + 1;
        if let Some((hanging, time)) = self.behaviour.hangs_at_step
            && hanging == step
        {
            std::thread::sleep(time);
        }
        assert_ne!(self.behaviour.panics_at_step, Some(step), "panic of the test");
        let Behaviour { nan_at_step, nan_for_samples, .. } = self.behaviour;
        let outputs = self.jobs.iter_mut().map(|(job, request, next)| {
            let position = *next;
            if nan_at_step == Some(step) || (nan_for_samples == Some(request.samples) && position == 1) {
                *next = GEOMETRY.image_length();
                return StepOutput { job: *job, position, tokens: Err(NotFinite { position }) };
            }
            *next += 1;
            let prefix = request.prefix.get(position);
            let next = |sample| {
                prefix.copied().unwrap_or_else(|| token(&request.text, request.seed, sample, position))
            };
            StepOutput { job: *job, position, tokens: Ok((0..request.samples).map(next).collect()) }
        });
        let outputs = outputs.collect();
        self.jobs.retain(|(_, _, next)| *next < GEOMETRY.image_length());
        self.count();
        Ok(outputs)
    }

    fn remove(&mut self, job: JobKey) {
        self.jobs.retain(|(key, _, _)| *key != job);
        self.count();
    }

    fn rows(&self) -> usize {
        self.jobs.iter().map(|(_, request, _)| request.samples).sum()
    }

    fn score(&self, _: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError> {
        std::thread::sleep(self.behaviour.score_time);
        Ok(score(tokens))
    }

    /// The inverse of [`pixels`].
    fn encode(&self, pixels: &[u8]) -> Result<Vec<ImageToken>, EncodeError> {
        let token = |place: usize| {
            let (x, y) = (place % GEOMETRY.grid * 8, place / GEOMETRY.grid * 8);
            let pixel = &pixels[3 * (y * GEOMETRY.image_size + x)..][..2];
            ImageToken(u16::from_be_bytes([pixel[0], pixel[1]]))
        };
        Ok((0..GEOMETRY.image_length()).map(token).collect())
    }

    fn decode(&self, tokens: &[ImageToken]) -> Result<Vec<u8>, DecodeError> {
        Ok(pixels(tokens))
    }
}
