//! The samples of a `best_of` job that wait for a score: all of them at half of their tokens, and again when they are complete.

use std::collections::VecDeque;

use dalle_shared::ImageToken;

/// The tokens of a scored job, and its waiting samples.
pub struct Scoring {
    /// Number of tokens of a complete image.
    length: usize,
    /// All tokens so far, one row per sample.
    tokens: Vec<Vec<ImageToken>>,
    /// Samples waiting for their score.
    waiting: VecDeque<usize>,
}

impl Scoring {
    /// No tokens yet; `length` is the number of tokens of a complete image.
    pub fn new(samples: usize, length: usize) -> Self {
        Self { length, tokens: vec![Vec::new(); samples], waiting: VecDeque::new() }
    }

    /// Adds the next token of each sample.
    pub fn push(&mut self, tokens: &[ImageToken]) {
        self.tokens.iter_mut().zip(tokens).for_each(|(row, token)| row.push(*token));
        let count = self.tokens[0].len();
        if count == self.length / 2 || count == self.length {
            self.waiting = (0..self.tokens.len()).collect();
        }
    }

    /// Number of samples waiting for their score.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the next waiting sample, with its tokens so far.
    pub fn take(&mut self) -> Option<(usize, &[ImageToken])> {
        let sample = self.waiting.pop_front()?;
        Some((sample, &self.tokens[sample]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_waits_at_half_and_when_complete_but_never_twice() {
        let mut scoring = Scoring::new(2, 4);
        let mut taken = Vec::new();
        for position in 0..4 {
            scoring.push(&[ImageToken(position), ImageToken(9)]);
            // One of two at half.
            for _ in 0..if position == 3 { 2 } else { 1 } {
                taken.extend(scoring.take().map(|(sample, tokens)| (sample, tokens.len())));
            }
        }
        assert_eq!(taken, [(0, 2), (1, 3), (0, 4), (1, 4)]);
        assert_eq!(scoring.waiting(), 0);
    }
}
