//! Retrieval: how often the nearest drawing to a sample is the one its caption belongs to.
//!
//! One sample for each of N captions of the training split, chosen by hash. Every sample is compared with all N true drawings (L2
//! distance of 32×32 RGB). Top-1 is the share of samples whose nearest drawing is the right one (chance is 1 in N), top-5 the share
//! with the right one among the nearest five.

use anyhow::{Result, ensure};
use dalle_data::{Dataset, Example, Split};
use dalle_shared::{SamplingSettings, sha256_hex};
use image::RgbImage;
use image::imageops::{self, FilterType};
use serde::Serialize;

use crate::generator::{Generator, SampleSpec};
use crate::{resized, sample_images};

/// Side to which images are reduced before they are compared, in pixels.
const COMPARED_SIZE: u32 = 32;

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Retrieval {
    /// Number of captions.
    pub captions: usize,
    /// Share of samples whose nearest drawing is the right one.
    pub top_1: f64,
    /// Share of samples with the right drawing among the nearest five.
    pub top_5: f64,
    /// Each caption with the rank of its own drawing, from 1.
    pub ranks: Vec<(String, usize)>,
}

/// A caption with its true drawing and a sample.
pub struct SamplePair {
    /// The caption.
    pub caption: String,
    /// The true drawing, at the model's image size.
    pub drawing: RgbImage,
    /// The sample.
    pub sample: RgbImage,
}

/// The `count` training examples of a dataset whose captions have the smallest hashes, one per caption.
///
/// # Errors
/// The dataset has fewer captions.
pub fn select(dataset: &Dataset, count: usize) -> Result<Vec<&Example>> {
    let mut examples: Vec<(String, &Example)> = dataset
        .split(Split::Train)
        .map(|example| (sha256_hex(format!("retrieval {}", example.captions.main()).as_bytes()), example))
        .collect();
    examples.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.cmp(&y.key)));
    examples.dedup_by(|(a, _), (b, _)| a == b);
    ensure!(
        examples.len() >= count,
        "the training split has {} different captions, expected at least {count}; choose a smaller --captions",
        examples.len()
    );
    Ok(examples.into_iter().take(count).map(|(_, example)| example).collect())
}

/// Samples one image per example and ranks the true drawings by distance. `progress` is called with the number of images sampled.
///
/// # Errors
/// A setting is out of range, or the device fails.
pub fn evaluate(
    generator: &mut Generator,
    examples: &[&Example],
    settings: SamplingSettings,
    seed: u64,
    progress: impl FnMut(usize),
) -> Result<(Retrieval, Vec<SamplePair>)> {
    let captions: Vec<String> = examples.iter().map(|example| example.captions.main()).collect();
    let specs: Vec<SampleSpec> =
        captions.iter().map(|caption| SampleSpec { caption, samples: 1, seed, prefix: &[] }).collect();
    let samples = sample_images(generator, &specs, settings, progress)?;
    let pairs: Vec<SamplePair> = examples
        .iter()
        .zip(captions)
        .zip(samples)
        .map(|((example, caption), sample)| {
            let drawing = resized(example, generator.config.image_size)?;
            Ok(SamplePair { caption, drawing, sample })
        })
        .collect::<Result<_>>()?;
    let (drawings, samples): (Vec<_>, Vec<_>) =
        pairs.iter().map(|pair| (&pair.drawing, &pair.sample)).unzip();
    let ranks = ranks_of(&drawings, &samples);
    let retrieval = Retrieval {
        captions: pairs.len(),
        top_1: share_within(&ranks, 1),
        top_5: share_within(&ranks, 5),
        ranks: pairs.iter().map(|pair| pair.caption.clone()).zip(ranks).collect(),
    };
    Ok((retrieval, pairs))
}

/// For each sample the rank, from 1, of its own drawing among all drawings. Sample i belongs to drawing i.
pub fn ranks_of(drawings: &[&RgbImage], samples: &[&RgbImage]) -> Vec<usize> {
    let reduced =
        |images: &[&RgbImage]| -> Vec<Vec<f32>> { images.iter().map(|image| reduce(image)).collect() };
    ranks(&reduced(drawings), &reduced(samples))
}

/// The share of ranks that are at most `within`.
pub fn share_within(ranks: &[usize], within: usize) -> f64 {
    ranks.iter().filter(|rank| **rank <= within).count() as f64 / ranks.len() as f64
}

fn reduce(image: &RgbImage) -> Vec<f32> {
    let small = imageops::resize(image, COMPARED_SIZE, COMPARED_SIZE, FilterType::Triangle);
    small.as_raw().iter().map(|&byte| f32::from(byte)).collect()
}

/// For each sample the rank, from 1, of its own drawing among all, by distance. A tie counts against it.
fn ranks(drawings: &[Vec<f32>], samples: &[Vec<f32>]) -> Vec<usize> {
    let distance = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
    samples
        .iter()
        .enumerate()
        .map(|(own, sample)| {
            let reference = distance(&drawings[own], sample);
            let nearer =
                |(other, drawing): (usize, &Vec<f32>)| other != own && distance(drawing, sample) <= reference;
            1 + drawings.iter().enumerate().filter(|&candidate| nearer(candidate)).count()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_the_nearer_drawings_and_ties_against_the_sample() {
        let drawings = [vec![0.0, 0.0], vec![10.0, 0.0], vec![0.0, 10.0]];
        let samples = [vec![1.0, 0.0], vec![1.0, 1.0], vec![5.0, 10.0]];
        assert_eq!(ranks(&drawings, &samples), [1, 3, 1]);
        assert_eq!(ranks(&[vec![1.0], vec![1.0]], &[vec![0.0], vec![1.0]]), [2, 2]);
    }
}
