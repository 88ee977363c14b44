//! Evaluation: sampling and reranking from a model folder, and the paper's metrics (sections 2.6 and 3).
//!
//! Each metric is a module that computes it. Reading and writing files is up to the caller.
//!
//! - [`generator`]: from captions to images
//! - [`reranking`]: the best of many samples by CLIP score
//! - [`reconstruction`]: PSNR, SSIM and codebook usage of the dVAE
//! - [`retrieval`]: how often the nearest drawing to a sample is the right one
//! - [`best_of_n`]: score and retrieval of the best of N samples
//! - [`clip_score`]: CLIP scores of samples and of true drawings
//! - [`fidelity`]: Fréchet distance and Inception Score over the radius of a blur
//! - [`overlap`]: held-out images that are nearly in the training set
//! - [`style`], [`background`]: whether samples have the style and the background that was asked for
//! - [`unseen_style`]: concepts in a style that training never shows them in, and the nearest training images
//! - [`composites`], [`counts`]: whether both objects are on the right sides, and the number of copies of one
//! - [`clip_retrieval`]: whether CLIP tells held-out drawings apart
//! - [`features`]: the feature networks
//! - [`catalogue`]: a dataset with what its records say about each image
//! - [`caption_file`], [`one_and_best`]: captions from a file, and the samples of many captions
//! - [`report`], [`sheet`]: results as an HTML page and as a contact sheet

pub mod background;
pub mod best_of_n;
pub mod blur;
pub mod caption_file;
pub mod catalogue;
pub mod classifier;
pub mod clip_retrieval;
pub mod clip_score;
pub mod composites;
pub mod counts;
pub mod feature_bank;
pub mod features;
pub mod fidelity;
pub mod foreground;
pub mod frechet;
pub mod generator;
pub mod one_and_best;
pub mod overlap;
pub mod reconstruction;
pub mod report;
pub mod reranking;
pub mod retrieval;
pub mod sheet;
pub mod similarity;
pub mod style;
pub mod symmetric;
pub mod unseen_style;

use anyhow::Result;
use dalle_data::Example;
use dalle_shared::SamplingSettings;
use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::generator::{Generator, SampleSpec};

/// Captions per batch.
const BATCH: usize = 20;

/// An example's image, resized to a model's image size.
///
/// # Errors
/// The image cannot be read.
pub fn resized(example: &Example, size: usize) -> Result<RgbImage> {
    Ok(imageops::resize(&example.image()?, size as u32, size as u32, FilterType::Triangle))
}

/// Samples one image per spec, in batches. `progress` is called with the number of images done.
///
/// # Errors
/// A caption or setting is out of range, or the device fails.
pub fn sample_images(
    generator: &mut Generator,
    specs: &[SampleSpec],
    settings: SamplingSettings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<RgbImage>> {
    let positions = generator.config.geometry().image_length();
    let mut images = Vec::with_capacity(specs.len());
    for chunk in specs.chunks(BATCH) {
        let done = images.len();
        let tokens = generator.sample(chunk, settings, |position| {
            progress(done + chunk.len() * position / positions);
        })?;
        for samples in tokens {
            images.push(generator.decode(&samples[0])?);
        }
    }
    Ok(images)
}
