//! The image that the page explains: it is read again in slices, beside what is sampled.

use std::sync::Arc;

use dalle_decoder_worker::port::{now, send};
use dalle_kernels::prior::{AttentionWeights, Pattern, PriorSizes, Sampler};
use dalle_sampler::{SampleError, Trace};
use dalle_shared::{
    Attention, AttentionPattern, GenerationRequest, PriorReport, SamplingSettings, TokenStep,
};

/// Reading goes on for so long before the page's messages are read.
const SLICE_MS: f64 = 16.0;

/// A question of the page about a position.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub ticket: u64,
    pub position: usize,
    pub settings: SamplingSettings,
    pub most: usize,
}

/// The image that was named last, as far as it has been read.
pub struct Traced {
    prior: Arc<Sampler>,
    ticket: u64,
    trace: Option<Trace<Arc<Sampler>>>,
    /// Ids of its caption, and its tokens.
    text: Vec<u32>,
    tokens: Vec<u32>,
    /// What has been read of a row that is not complete.
    row: Vec<TokenStep>,
    grid: usize,
    /// The latest question, until its position has been read. An older one has been overtaken.
    asked: Option<Asked>,
}

impl Traced {
    /// No image yet.
    pub fn new(prior: Arc<Sampler>) -> Self {
        let grid = prior.sizes().grid;
        Self {
            prior,
            ticket: 0,
            trace: None,
            text: Vec::new(),
            tokens: Vec::new(),
            row: Vec::new(),
            grid,
            asked: None,
        }
    }

    /// Whether there are tokens to read.
    pub fn is_reading(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.position().is_some())
    }

    /// Begins to read an image.
    pub fn begin(&mut self, ticket: u64, request: GenerationRequest) {
        let sampling = request.sampling();
        let GenerationRequest { text, seed, prefix, .. } = request;
        self.ticket = ticket;
        self.row.clear();
        self.asked = None;
        self.text = text.iter().map(|id| id.0).collect();
        self.tokens = prefix.iter().map(|token| u32::from(token.0)).collect();
        let trace = Trace::new(Arc::clone(&self.prior), &text, sampling, seed.0, prefix);
        self.trace = trace.map_err(|error| self.fail(&error)).ok();
    }

    /// Answers a question, now or when its position has been read.
    pub fn ask(&mut self, asked: Asked) {
        self.asked = Some(asked).filter(|asked| asked.ticket == self.ticket);
        self.answer();
    }

    fn answer(&mut self) {
        let (Some(trace), Some(asked)) = (&self.trace, self.asked) else { return };
        let Asked { ticket, position, settings, most } = asked;
        if let Some(choices) = trace.choices(position, &settings, most) {
            send(&PriorReport::Choices { ticket, position, settings, choices });
            self.asked = None;
        }
    }

    /// Says what a layer attends to.
    pub fn attend(&self, ticket: u64, position: usize, layer: usize) {
        // The image was checked when it was read.
        if ticket != self.ticket || self.trace.is_none() {
            return;
        }
        let PriorSizes { layers, heads, .. } = *self.prior.sizes();
        let (Some(image), true) = (self.tokens.get(..position), layer < layers) else { return };
        let AttentionWeights { pattern, text, positions, image } =
            self.prior.attention(&self.text, image, layer);
        let pattern = match pattern {
            Pattern::Row => AttentionPattern::Row,
            Pattern::Column => AttentionPattern::Column,
            Pattern::Conv => AttentionPattern::Conv,
        };
        let attention = Attention { pattern, layers, heads, text, positions, image };
        send(&PriorReport::Attention { ticket, position, layer, attention });
    }

    /// Reads for a slice of time.
    pub fn steps(&mut self) {
        let start = now();
        while now() - start < SLICE_MS {
            let Some(position) = self.trace.as_ref().and_then(Trace::position) else { return };
            let Some(trace) = &mut self.trace else { return };
            match trace.step() {
                Ok(step) => self.row.push(step),
                Err(error) => {
                    self.fail(&error);
                    self.trace = None;
                    return;
                }
            }
            if (position + 1).is_multiple_of(self.grid) || !self.is_reading() {
                let steps = std::mem::take(&mut self.row);
                let start = position + 1 - steps.len();
                send(&PriorReport::Traced { ticket: self.ticket, start, steps });
            }
            self.answer();
        }
    }

    fn fail(&self, error: &SampleError) {
        send(&PriorReport::NotTraced { ticket: self.ticket, message: error.to_string() });
    }
}
