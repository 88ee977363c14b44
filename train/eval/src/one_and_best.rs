//! One sample and the best of N samples of each of many captions.

use anyhow::Result;
use dalle_model::clip::best_first;
use dalle_shared::SamplingSettings;
use image::RgbImage;

use crate::generator::{Generator, SampleSpec};
use crate::reranking::{ClipScorer, sample_and_score, scores};
use crate::sample_images;

/// How images are sampled and selected.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// CLIP, which selects the best of several samples.
    pub scorer: Option<&'a ClipScorer>,
    /// Number of samples per caption; 1 without CLIP.
    pub best_of: usize,
    /// Settings of all samples.
    pub settings: SamplingSettings,
    /// Seed of the first sample of each caption; the others have the next seeds.
    pub seed: u64,
}

impl Selection<'_> {
    /// Number of samples of each caption.
    pub fn samples(&self) -> usize {
        if self.scorer.is_some() { self.best_of } else { 1 }
    }
}

/// The samples of one caption.
pub struct OneAndBest {
    /// The first sample.
    pub one: RgbImage,
    /// The sample with the highest CLIP score.
    pub best: RgbImage,
    /// The seed of the best, which generates it alone.
    pub seed: u64,
    /// The score of the best.
    pub score: Option<f32>,
}

/// Samples each caption. `progress` is called with the number of images sampled.
///
/// # Errors
/// A caption or setting is out of range, or the device fails.
pub fn sample(
    generator: &mut Generator,
    captions: &[String],
    selection: Selection,
    mut progress: impl FnMut(usize),
) -> Result<Vec<OneAndBest>> {
    let Selection { scorer, settings, seed, .. } = selection;
    let spec = |caption, samples| SampleSpec { caption, samples, seed, prefix: &[] };
    let Some(scorer) = scorer else {
        let specs: Vec<SampleSpec> = captions.iter().map(|caption| spec(caption, 1)).collect();
        let images = sample_images(generator, &specs, settings, progress)?;
        let alone = |one: RgbImage| OneAndBest { best: one.clone(), one, seed, score: None };
        return Ok(images.into_iter().map(alone).collect());
    };
    let (count, length) = (selection.samples(), generator.config.geometry().image_length());
    let mut all = Vec::with_capacity(captions.len());
    for (index, caption) in captions.iter().enumerate() {
        let candidates = sample_and_score(generator, scorer, &spec(caption, count), settings, |tokens| {
            progress(index * count + tokens / length);
        })?;
        let best = &candidates[best_first(&scores(&candidates))[0]];
        all.push(OneAndBest {
            one: candidates[0].image.clone(),
            best: best.image.clone(),
            seed: best.seed,
            score: Some(best.score),
        });
    }
    Ok(all)
}
