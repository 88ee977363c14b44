//! The event log of one generation as far as it has arrived. It makes resuming, replays and repeats harmless.

use dalle_shared::{ApiError, EventKind, GenerationEvent, Geometry, ImageToken};

/// All tokens received so far, and the next event expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    next: u64,
    length: usize,
    vocab: usize,
    tokens: Vec<Vec<ImageToken>>,
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing: it was known already.
    Repeat,
    /// Nothing: this page does not know its kind.
    Ignored,
    /// The engine began.
    Started,
    /// There are more tokens.
    Tokens,
    /// An image has a score.
    Scored {
        /// Index of the image.
        sample: usize,
        /// How many of its tokens the score was computed from.
        tokens: usize,
        /// The score.
        score: f32,
    },
    /// Every image has all its tokens.
    Finished {
        /// Seconds that the engine worked.
        seconds: f64,
    },
    /// It was cancelled.
    Cancelled,
    /// The engine failed.
    Failed(ApiError),
}

/// Why an event does not continue the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Events between the last one and this are missing: read again from [`Log::last`].
    Gap,
    /// The tokens do not fit the request. Says how.
    Malformed(String),
}

impl Change {
    /// Whether the log ends with it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Cancelled | Self::Failed(_))
    }
}

impl Log {
    /// The log of a finished generation, from its tokens alone; None if they do not fill the grid.
    pub fn complete(tokens: Vec<Vec<ImageToken>>, geometry: &Geometry) -> Option<Self> {
        let mut log = Self::new(tokens.len(), geometry);
        let whole = tokens.iter().all(|tokens| tokens.len() == log.length);
        log.check(0, &tokens).ok().filter(|()| whole)?;
        log.tokens = tokens;
        Some(log)
    }

    /// The empty log of a request that samples `samples` images.
    pub fn new(samples: usize, geometry: &Geometry) -> Self {
        let length = geometry.image_length();
        Self { next: 0, length, vocab: geometry.image_vocab, tokens: vec![Vec::new(); samples] }
    }

    /// Number of the last event received: what to continue after.
    pub fn last(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Tokens of each image, in raster order.
    pub fn tokens(&self) -> &[Vec<ImageToken>] {
        &self.tokens
    }

    /// Number of tokens of all images together.
    pub fn received(&self) -> usize {
        self.tokens.iter().map(Vec::len).sum()
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// If it does not continue the log; the log is unchanged then.
    pub fn apply(&mut self, event: GenerationEvent) -> Result<Change, LogError> {
        if event.seq < self.next {
            return Ok(Change::Repeat);
        }
        if event.seq > self.next {
            return Err(LogError::Gap);
        }
        let change = match event.kind {
            EventKind::Started => Change::Started,
            EventKind::Tokens { start, tokens } => {
                self.check(start, &tokens)?;
                for (all, new) in self.tokens.iter_mut().zip(tokens) {
                    all.extend(new);
                }
                Change::Tokens
            }
            EventKind::Scored { sample, tokens, score } => {
                if sample >= self.tokens.len() {
                    return Err(LogError::Malformed(format!(
                        "a score of image {sample} of {}",
                        self.tokens.len()
                    )));
                }
                Change::Scored { sample, tokens, score }
            }
            EventKind::Finished { seconds } => {
                if self.tokens.iter().any(|tokens| tokens.len() < self.length) {
                    return Err(LogError::Malformed(format!(
                        "finished with {} of {} tokens",
                        self.received(),
                        self.length * self.tokens.len()
                    )));
                }
                Change::Finished { seconds }
            }
            EventKind::Cancelled => Change::Cancelled,
            EventKind::Failed { error } => Change::Failed(error),
            EventKind::Unknown => Change::Ignored,
        };
        self.next += 1;
        Ok(change)
    }

    fn check(&self, start: usize, tokens: &[Vec<ImageToken>]) -> Result<(), LogError> {
        let wrong = |how: String| Err(LogError::Malformed(how));
        if tokens.len() != self.tokens.len() {
            return wrong(format!("tokens of {} images instead of {}", tokens.len(), self.tokens.len()));
        }
        for (all, new) in self.tokens.iter().zip(tokens) {
            if start != all.len() {
                return wrong(format!("tokens from position {start} instead of {}", all.len()));
            }
            if all.len() + new.len() > self.length {
                return wrong(format!("more than {} tokens for an image", self.length));
            }
            if let Some(token) = new.iter().find(|token| usize::from(token.0) >= self.vocab) {
                return wrong(format!("token {} of a codebook of {}", token.0, self.vocab));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 9, grid: 2, image_vocab: 8, image_size: 16 };

    fn event(seq: u64, kind: EventKind) -> GenerationEvent {
        GenerationEvent { seq, kind }
    }

    fn tokens(start: usize, rows: [&[u16]; 2]) -> EventKind {
        EventKind::Tokens {
            start,
            tokens: rows.map(|row| row.iter().copied().map(ImageToken).collect()).into(),
        }
    }

    /// Two images of four tokens each.
    fn events() -> Vec<GenerationEvent> {
        [
            EventKind::Started,
            tokens(0, [&[1], &[2]]),
            tokens(1, [&[3, 4], &[5, 6]]),
            tokens(3, [&[7], &[0]]),
            EventKind::Finished { seconds: 1.5 },
        ]
        .into_iter()
        .zip(0..)
        .map(|(kind, seq)| event(seq, kind))
        .collect()
    }

    fn read(log: &mut Log, events: impl IntoIterator<Item = GenerationEvent>) -> Vec<Change> {
        events.into_iter().map(|event| log.apply(event).expect("continues the log")).collect()
    }

    #[test]
    fn a_resumed_log_with_repeats_equals_one_read_at_once() {
        let mut whole = Log::new(2, &GEOMETRY);
        read(&mut whole, events());
        assert_eq!(whole.received(), 8);
        for cut in 0..5 {
            let mut resumed = Log::new(2, &GEOMETRY);
            read(&mut resumed, events().into_iter().take(cut));
            assert_eq!(resumed.last(), (cut as u64).checked_sub(1));
            // A server that replays everything, and one that continues, give the same.
            let mut replayed = resumed.clone();
            let changes = read(&mut replayed, events());
            assert_eq!(changes.iter().filter(|change| **change == Change::Repeat).count(), cut);
            read(&mut resumed, events().into_iter().skip(cut));
            assert_eq!(resumed, whole);
            assert_eq!(replayed, whole);
        }
    }

    #[test]
    fn a_gap_is_noticed_and_changes_nothing() {
        let mut log = Log::new(2, &GEOMETRY);
        read(&mut log, events().into_iter().take(2));
        let before = log.clone();
        assert_eq!(log.apply(events().remove(3)), Err(LogError::Gap));
        assert_eq!(log, before);
    }

    #[test]
    fn an_unknown_event_kind_only_advances_the_sequence_number() {
        let mut known = Log::new(2, &GEOMETRY);
        read(&mut known, events());
        let mut log = Log::new(2, &GEOMETRY);
        let news = r#"{"seq":1,"type":"explained","attention":[[0.5]]}"#;
        let mut events = events();
        for event in &mut events[1..] {
            event.seq += 1;
        }
        events.insert(1, serde_json::from_str(news).expect("an event of a newer server"));
        assert_eq!(read(&mut log, events)[1], Change::Ignored);
        assert_eq!(log.tokens(), known.tokens());
        assert_eq!(log.last(), Some(5));
    }

    #[test]
    fn tokens_that_do_not_fit_are_refused() {
        let refused = |kind: EventKind, word: &str| {
            let mut log = Log::new(2, &GEOMETRY);
            let before = log.clone();
            let Err(LogError::Malformed(how)) = log.apply(event(0, kind)) else { panic!("accepted") };
            assert!(how.contains(word), "{how}");
            assert_eq!(log, before);
        };
        refused(EventKind::Tokens { start: 0, tokens: vec![vec![]] }, "1 images");
        refused(tokens(1, [&[1], &[1]]), "position 1");
        refused(tokens(0, [&[1, 1, 1, 1, 1], &[1]]), "more than 4");
        refused(tokens(0, [&[1], &[8]]), "token 8");
        refused(EventKind::Finished { seconds: 0.0 }, "0 of 8");
        refused(EventKind::Scored { sample: 2, tokens: 0, score: 0.5 }, "image 2 of 2");
    }
}
