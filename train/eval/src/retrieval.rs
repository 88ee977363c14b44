//! Does a sample look like the drawing that its caption belongs to?
//!
//! For N captions the model has seen, chosen by hash, one sample each. Every sample is compared with all N true drawings
//! (L2 between pictures reduced to 32×32 RGB); top-1 counts the samples whose nearest drawing is the right one (by chance:
//! 1 in N), top-5 those with it among the nearest five.

use anyhow::{Result, ensure};
use dalle_shared::{SamplingSettings, sha256_hex};
use image::RgbImage;
use image::imageops::{self, FilterType};
use serde::Serialize;

use dalle_data::{Dataset, Example, Split};

use super::{at_size, draw};
use crate::sampling::{Model, Order};

/// Side to which pictures are reduced before they are compared.
const COMPARED_SIZE: u32 = 32;

/// The measure, and what it was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Retrieval {
    /// Captions.
    pub captions: usize,
    /// Share of samples whose nearest drawing is the right one.
    pub top_1: f64,
    /// Share with the right one among the nearest five.
    pub top_5: f64,
    /// Each caption with the rank of its own drawing, from 1.
    pub ranks: Vec<(String, usize)>,
}

/// A drawing and the sample of its caption.
pub struct Pair {
    /// The caption.
    pub caption: String,
    /// The true drawing, at the model's size.
    pub drawing: RgbImage,
    /// The model's.
    pub sample: RgbImage,
}

/// The `count` training examples of a dataset whose captions have the smallest hashes; one for each caption.
///
/// # Errors
/// There are not so many.
pub fn choose(dataset: &Dataset, count: usize) -> Result<Vec<&Example>> {
    let mut examples: Vec<(String, &Example)> = dataset
        .split(Split::Train)
        .map(|example| (sha256_hex(format!("retrieval {}", example.captions.main()).as_bytes()), example))
        .collect();
    examples.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.cmp(&y.key)));
    examples.dedup_by(|(a, _), (b, _)| a == b);
    ensure!(
        examples.len() >= count,
        "the dataset has {} captions to train on, fewer than {count}",
        examples.len()
    );
    Ok(examples.into_iter().take(count).map(|(_, example)| example).collect())
}

/// Samples one picture for each example and ranks the true drawings.
///
/// # Errors
/// The model cannot be sampled.
pub fn measure(
    model: &mut Model,
    examples: &[&Example],
    sampling: SamplingSettings,
    seed: u64,
    progress: impl FnMut(usize),
) -> Result<(Retrieval, Vec<Pair>)> {
    let captions: Vec<String> = examples.iter().map(|example| example.captions.main()).collect();
    let orders: Vec<Order> =
        captions.iter().map(|caption| Order { caption, samples: 1, seed, prefix: &[] }).collect();
    let samples = draw(model, &orders, sampling, progress)?;
    let pairs: Vec<Pair> = examples
        .iter()
        .zip(captions)
        .zip(samples)
        .map(|((example, caption), sample)| {
            let drawing = at_size(example, model.config.image_size);
            Pair { caption, drawing, sample }
        })
        .collect();
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

/// For each sample the rank, from 1, of its own drawing among all.
pub fn ranks_of(drawings: &[&RgbImage], samples: &[&RgbImage]) -> Vec<usize> {
    let reduced = |pictures: &[&RgbImage]| -> Vec<Vec<f32>> {
        pictures.iter().map(|picture| reduce(picture)).collect()
    };
    ranks(&reduced(drawings), &reduced(samples))
}

/// Share of ranks that are at most `within`.
pub fn share_within(ranks: &[usize], within: usize) -> f64 {
    ranks.iter().filter(|rank| **rank <= within).count() as f64 / ranks.len() as f64
}

fn reduce(picture: &RgbImage) -> Vec<f32> {
    let small = imageops::resize(picture, COMPARED_SIZE, COMPARED_SIZE, FilterType::Triangle);
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
