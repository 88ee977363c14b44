//! The best of N samples, over N (figure 6 of the paper).
//!
//! For captions of the training split, chosen by hash, as many images are sampled once as the largest N needs. For each N, the best
//! of the first N by CLIP score gives the mean score, and the retrieval accuracy (see [`retrieval`](super::retrieval)), in which
//! CLIP has no part.

use anyhow::Result;
use dalle_model::clip::best_first;
use dalle_shared::SamplingSettings;
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::Prompt;
use crate::generator::{Generator, SampleSpec};
use crate::reranking::{ClipScorer, sample_and_score, scores};
use crate::resized;
use crate::retrieval::{ranks_of, share_within};

/// The metric at one N.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Samples per caption.
    pub n: usize,
    /// Mean CLIP score of the best.
    pub score: f64,
    /// Share of the best whose nearest drawing is the right one.
    pub top_1: f64,
    /// Share of the best with the right drawing among the nearest five.
    pub top_5: f64,
}

/// A caption's true drawing and the best sample for each N.
pub struct RankedSamples {
    /// The caption.
    pub caption: String,
    /// The true drawing, at the model's image size.
    pub drawing: RgbImage,
    /// The best sample and its score, for each N.
    pub best: Vec<(RgbImage, f32)>,
}

/// Samples, scores and selects, for each number in `ns`. `progress` is called with the number of tokens sampled.
///
/// # Errors
/// A setting is out of range, or the device fails.
pub fn evaluate(
    generator: &mut Generator,
    scorer: &ClipScorer,
    prompts: &[Prompt],
    ns: &[usize],
    settings: SamplingSettings,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<(Vec<Point>, Vec<RankedSamples>)> {
    let largest = ns.iter().copied().max().unwrap_or(0);
    let tokens_each = largest * generator.config.geometry().image_length();
    let mut ranked = Vec::with_capacity(prompts.len());
    for (index, Prompt { caption, example }) in prompts.iter().enumerate() {
        let spec = SampleSpec { caption, samples: largest, seed, prefix: &[] };
        let candidates = sample_and_score(generator, scorer, &spec, settings, |done| {
            progress(index * tokens_each + done);
        })?;
        let scores = scores(&candidates);
        let best = |&n: &usize| {
            let chosen = &candidates[best_first(&scores[..n])[0]];
            (chosen.image.clone(), chosen.score)
        };
        ranked.push(RankedSamples {
            caption: caption.clone(),
            drawing: resized(example, generator.config.image_size)?,
            best: ns.iter().map(best).collect(),
        });
    }
    let drawings: Vec<&RgbImage> = ranked.iter().map(|samples| &samples.drawing).collect();
    let point = |(index, &n): (usize, &usize)| {
        let best: Vec<&RgbImage> = ranked.iter().map(|samples| &samples.best[index].0).collect();
        let ranks = ranks_of(&drawings, &best);
        let total: f64 = ranked.iter().map(|samples| f64::from(samples.best[index].1)).sum();
        let score = total / ranked.len() as f64;
        Point { n, score, top_1: share_within(&ranks, 1), top_5: share_within(&ranks, 5) }
    };
    let points = ns.iter().enumerate().map(point).collect();
    Ok((points, ranked))
}
