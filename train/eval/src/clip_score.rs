//! CLIP scores of samples and of true drawings, against those of mismatched pairs.
//!
//! For captions of the training split, chosen by hash: the mean cosine similarity of each caption with its sample, with its true
//! drawing, and with the drawings of all other captions. The last is the score of a mismatched pair: the baseline for reading the
//! other two.

use anyhow::Result;
use serde::Serialize;

use crate::reranking::ClipScorer;
use crate::retrieval::SamplePair;

/// The result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipScore {
    /// Number of captions.
    pub captions: usize,
    /// Mean score of the samples.
    pub samples: f64,
    /// Mean score of the true drawings.
    pub drawings: f64,
    /// Mean score of every drawing with every caption but its own.
    pub shuffled: f64,
    /// Share of captions that score their own drawing above all others, which measures CLIP itself. Chance is 1 in `captions`.
    pub drawings_top_1: f64,
    /// Share of captions that score their own sample above all others.
    pub samples_top_1: f64,
}

/// Scores drawings and samples.
///
/// # Errors
/// The device fails.
pub fn evaluate(scorer: &ClipScorer, pairs: &[SamplePair]) -> Result<ClipScore> {
    let captions: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
    let drawings: Vec<_> = pairs.iter().map(|pair| &pair.drawing).collect();
    let samples: Vec<_> = pairs.iter().map(|pair| &pair.sample).collect();
    Ok(summary(&scorer.cosines(&captions, &drawings)?, &scorer.cosines(&captions, &samples)?))
}

/// Summarises the cosines `[caption][image]`, where image i belongs to caption i.
fn summary(drawings: &[Vec<f32>], samples: &[Vec<f32>]) -> ClipScore {
    let count = drawings.len();
    let own = |cosines: &[Vec<f32>]| {
        cosines.iter().enumerate().map(|(index, row)| f64::from(row[index])).sum::<f64>()
    };
    let top_1 = |cosines: &[Vec<f32>]| {
        let is_highest = |(own, row): &(usize, &Vec<f32>)| {
            row.iter().enumerate().all(|(index, score)| index == *own || *score < row[*own])
        };
        cosines.iter().enumerate().filter(is_highest).count() as f64 / count as f64
    };
    let all: f64 = drawings.iter().flatten().map(|&score| f64::from(score)).sum();
    ClipScore {
        captions: count,
        samples: own(samples) / count as f64,
        drawings: own(drawings) / count as f64,
        shuffled: (all - own(drawings)) / (count * (count - 1)) as f64,
        drawings_top_1: top_1(drawings),
        samples_top_1: top_1(samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matched_pairs_are_on_the_diagonal_and_the_rest_is_chance() {
        let drawings = [vec![0.5, 0.25, 0.0], vec![0.25, 0.75, 0.5], vec![0.5, 0.0, 0.5]];
        let samples = [vec![0.25, 0.5, 0.0], vec![0.0, 0.25, 0.0], vec![0.0, 0.0, 0.25]];
        let expected = ClipScore {
            captions: 3,
            samples: 0.25,
            drawings: 1.75 / 3.0,
            shuffled: 0.25,
            // A tie counts against the image.
            drawings_top_1: 2.0 / 3.0,
            samples_top_1: 2.0 / 3.0,
        };
        assert_eq!(summary(&drawings, &samples), expected);
    }
}
