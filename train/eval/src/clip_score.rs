//! How near the contrastive model finds captions and pictures: the scale on which its choices are to be read.
//!
//! For N captions the model has seen, chosen by hash: the mean cosine of each caption with its sample, with its true drawing, and
//! with the drawings of all other captions, which is what a picture scores by chance.

use anyhow::Result;
use serde::Serialize;

use super::retrieval::Pair;
use crate::reranking::Judge;

/// The measure, and what it was measured on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipScore {
    /// Captions.
    pub captions: usize,
    /// Mean score of the samples.
    pub samples: f64,
    /// Mean score of the true drawings.
    pub drawings: f64,
    /// Mean score of every drawing with every caption but its own.
    pub shuffled: f64,
    /// Share of captions that score their own drawing above all others: how well the contrastive model knows them. By chance 1
    /// in N.
    pub drawings_top_1: f64,
    /// The same of the samples.
    pub samples_top_1: f64,
}

/// Scores drawings and samples.
///
/// # Errors
/// The device fails.
pub fn measure(judge: &Judge, pairs: &[Pair]) -> Result<ClipScore> {
    let captions: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
    let drawings: Vec<_> = pairs.iter().map(|pair| &pair.drawing).collect();
    let samples: Vec<_> = pairs.iter().map(|pair| &pair.sample).collect();
    Ok(summary(&judge.cosines(&captions, &drawings)?, &judge.cosines(&captions, &samples)?))
}

/// From the cosines `[caption][picture]`, where each caption's own picture is in its column.
fn summary(drawings: &[Vec<f32>], samples: &[Vec<f32>]) -> ClipScore {
    let count = drawings.len();
    let own = |cosines: &[Vec<f32>]| {
        cosines.iter().enumerate().map(|(place, row)| f64::from(row[place])).sum::<f64>()
    };
    let top_1 = |cosines: &[Vec<f32>]| {
        let alone = |(place, row): &(usize, &Vec<f32>)| {
            row.iter().enumerate().all(|(other, score)| other == *place || *score < row[*place])
        };
        cosines.iter().enumerate().filter(alone).count() as f64 / count as f64
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
    fn own_pictures_are_on_the_diagonal_and_the_rest_is_chance() {
        let drawings = [vec![0.5, 0.25, 0.0], vec![0.25, 0.75, 0.5], vec![0.5, 0.0, 0.5]];
        let samples = [vec![0.25, 0.5, 0.0], vec![0.0, 0.25, 0.0], vec![0.0, 0.0, 0.25]];
        let expected = ClipScore {
            captions: 3,
            samples: 0.25,
            drawings: 1.75 / 3.0,
            shuffled: 0.25,
            // A tie counts against the picture.
            drawings_top_1: 2.0 / 3.0,
            samples_top_1: 2.0 / 3.0,
        };
        assert_eq!(summary(&drawings, &samples), expected);
    }
}
