//! What is sampled, as the events that a server would stream.
//!
//! An event holds a whole row of the grid. A machine's speed changes nothing in the log, so that the page can follow a generation
//! that begins again.

use dalle_sampler::StepOutput;
use dalle_shared::{ApiError, ErrorCode, EventKind, GenerationEvent, Geometry, ImageToken};

/// The log of one generation.
#[derive(Debug)]
pub struct Recorder {
    next: u64,
    /// Tokens of a row.
    row: usize,
    /// Tokens of an image.
    length: usize,
    /// Raster position of the first pending token.
    start: usize,
    /// Tokens of each sample that are not yet in an event.
    pending: Vec<Vec<ImageToken>>,
}

impl Recorder {
    /// An empty log of `samples` images.
    pub fn new(samples: usize, geometry: &Geometry) -> Self {
        let (row, length) = (geometry.grid, geometry.image_length());
        Self { next: 0, row, length, start: 0, pending: vec![Vec::new(); samples] }
    }

    /// The next event.
    pub fn event(&mut self, kind: EventKind) -> GenerationEvent {
        self.next += 1;
        GenerationEvent { seq: self.next - 1, kind }
    }

    /// Takes the output of a step. Returns an event when a row is complete or sampling failed, and whether the images are complete.
    pub fn take(&mut self, output: StepOutput) -> (Option<GenerationEvent>, bool) {
        let tokens = match output.tokens {
            Ok(tokens) => tokens,
            Err(error) => return (Some(self.failed(ErrorCode::Internal, error.to_string())), false),
        };
        for (pending, token) in self.pending.iter_mut().zip(tokens) {
            pending.push(token);
        }
        let end = output.position + 1;
        if !end.is_multiple_of(self.row) {
            return (None, false);
        }
        let tokens = self.pending.iter_mut().map(std::mem::take).collect();
        let start = std::mem::replace(&mut self.start, end);
        (Some(self.event(EventKind::Tokens { start, tokens })), end == self.length)
    }

    /// The event of a failure.
    pub fn failed(&mut self, code: ErrorCode, message: String) -> GenerationEvent {
        self.event(EventKind::Failed { error: ApiError { code, message, field: None } })
    }
}

#[cfg(test)]
mod tests {
    use dalle_sampler::{JobKey, NotFinite};

    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 9, grid: 2, image_vocab: 8, image_size: 16 };

    fn output(position: usize, tokens: Result<Vec<ImageToken>, NotFinite>) -> StepOutput {
        StepOutput { job: JobKey(0), position, tokens }
    }

    #[test]
    fn every_event_is_a_row_and_the_last_one_completes_the_images() {
        let mut recorder = Recorder::new(2, &GEOMETRY);
        assert_eq!(recorder.event(EventKind::Started).seq, 0);
        let mut events = Vec::new();
        for position in 0..4 {
            let tokens = [position as u16, 7].map(ImageToken).to_vec();
            let (event, complete) = recorder.take(output(position, Ok(tokens)));
            assert_eq!(complete, position == 3);
            events.extend(event);
        }
        let row = |a: u16| vec![[a, a + 1].map(ImageToken).to_vec(), [7, 7].map(ImageToken).to_vec()];
        let expected = [(1, 0, row(0)), (2, 2, row(2))]
            .map(|(seq, start, tokens)| GenerationEvent { seq, kind: EventKind::Tokens { start, tokens } });
        assert_eq!(events, expected);
    }

    #[test]
    fn logits_that_are_not_finite_end_the_log() {
        let mut recorder = Recorder::new(1, &GEOMETRY);
        let (event, complete) = recorder.take(output(0, Err(NotFinite { position: 0 })));
        assert!(!complete && event.is_some_and(|event| event.kind.is_last()));
    }
}
