//! Retrieval: how often the nearest drawing to a sample is the one its caption belongs to.
//!
//! One sample for each of N captions of the training split, chosen by hash. Every sample is compared with all N true drawings (L2
//! distance of 32×32 RGB). Top-1 is the share of samples whose nearest drawing is the right one (chance is 1 in N), top-5 the share
//! with the right one among the nearest five.

use anyhow::{Result, ensure};
use dalle_shared::{SamplingSettings, sha256_hex};
use image::RgbImage;
use image::imageops::{self, FilterType};
use serde::Serialize;

use crate::catalogue::{Catalogue, Missing, Prompt};
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

/// The `count` captions of the training split with the smallest hashes, each with one of its examples. If the dataset has several
/// styles, captions name the style, and only those of drawings on white are used.
///
/// # Errors
/// The dataset has fewer captions.
pub fn select(catalogue: &Catalogue, count: usize) -> Result<Vec<Prompt<'_>>> {
    let styled = catalogue.styles().len() > 1;
    let mut prompts: Vec<(String, Prompt)> = catalogue
        .training()
        .filter(|image| !styled || image.about.is_drawing())
        .map(|image| catalogue.prompt(image))
        .map(|prompt| (sha256_hex(format!("retrieval {}", prompt.caption).as_bytes()), prompt))
        .collect();
    prompts.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.example.key.cmp(&y.example.key)));
    prompts.dedup_by(|(a, _), (b, _)| a == b);
    ensure!(
        prompts.len() >= count,
        Missing(format!(
            "the training split has {} different captions, expected at least {count}; choose a smaller --captions",
            prompts.len()
        ))
    );
    Ok(prompts.into_iter().take(count).map(|(_, prompt)| prompt).collect())
}

/// Samples one image per caption and ranks the true drawings by distance. `progress` is called with the number of images sampled.
///
/// # Errors
/// A setting is out of range, or the device fails.
pub fn evaluate(
    generator: &mut Generator,
    prompts: &[Prompt],
    settings: SamplingSettings,
    seed: u64,
    progress: impl FnMut(usize),
) -> Result<(Retrieval, Vec<SamplePair>)> {
    let specs: Vec<SampleSpec> = prompts
        .iter()
        .map(|prompt| SampleSpec { caption: &prompt.caption, samples: 1, seed, prefix: &[] })
        .collect();
    let samples = sample_images(generator, &specs, settings, progress)?;
    let pairs: Vec<SamplePair> = prompts
        .iter()
        .zip(samples)
        .map(|(Prompt { caption, example }, sample)| {
            let drawing = resized(example, generator.config.image_size)?;
            Ok(SamplePair { caption: caption.clone(), drawing, sample })
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

/// An image reduced to the values that are compared.
pub fn reduce(image: &RgbImage) -> Vec<f32> {
    let small = imageops::resize(image, COMPARED_SIZE, COMPARED_SIZE, FilterType::Triangle);
    small.as_raw().iter().map(|&byte| f32::from(byte)).collect()
}

/// For each sample the rank, from 1, of its own drawing among all, by distance. A tie counts against it.
fn ranks(drawings: &[Vec<f32>], samples: &[Vec<f32>]) -> Vec<usize> {
    samples.iter().enumerate().map(|(own, sample)| rank(drawings, own, sample)).collect()
}

/// The rank, from 1, of the drawing `own` among all, by distance from a sample. A tie counts against it.
pub fn rank(drawings: &[Vec<f32>], own: usize, sample: &[f32]) -> usize {
    let distance = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
    let reference = distance(&drawings[own], sample);
    let nearer =
        |(other, drawing): (usize, &Vec<f32>)| other != own && distance(drawing, sample) <= reference;
    1 + drawings.iter().enumerate().filter(|&candidate| nearer(candidate)).count()
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
