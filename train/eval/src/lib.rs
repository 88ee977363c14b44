//! Measures of a model's pictures (sections 2.6 and 3), each a file that computes, free of files and terminals.
//!
//! - [`reconstruction`]: what the dVAE's round trip loses
//! - [`retrieval`]: is the right drawing the nearest to a sample?
//! - [`best_of_n`]: what choosing among more samples brings
//! - [`clip_score`]: how near the contrastive model finds captions and pictures
//! - [`fidelity`]: Fréchet distance and Inception Score between true and sampled pictures, over blur
//! - [`overlap`]: held-out pictures that training has nearly seen
//! - [`features`]: the networks behind the last two
//! - [`report`]: a measure as one page to look at

pub mod best_of_n;
pub mod clip_score;
pub mod features;
pub mod fidelity;
pub mod frechet;
pub mod gaussian;
pub mod overlap;
pub mod reconstruction;
pub mod report;
pub mod reranking;
pub mod retrieval;
pub mod sampling;
pub mod sheet;
pub mod similarity;
pub mod symmetric;

use anyhow::Result;
use dalle_shared::SamplingSettings;
use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::sampling::{Model, Order};
use dalle_data::Example;

/// An example's picture at a model's size.
pub fn at_size(example: &Example, size: usize) -> RgbImage {
    imageops::resize(&example.image, size as u32, size as u32, FilterType::Triangle)
}

/// Captions sampled together.
const BATCH: usize = 20;

/// One picture for each order, sampled in batches. `progress` gets the number of pictures done.
///
/// # Errors
/// The model cannot be sampled.
pub fn draw(
    model: &mut Model,
    orders: &[Order],
    sampling: SamplingSettings,
    mut progress: impl FnMut(usize),
) -> Result<Vec<RgbImage>> {
    let positions = model.config.geometry().image_length();
    let mut drawn = Vec::with_capacity(orders.len());
    for chunk in orders.chunks(BATCH) {
        let done = drawn.len();
        let tokens = model.sample(chunk, sampling, |position| {
            progress(done + chunk.len() * position / positions);
        })?;
        for picture in tokens {
            drawn.push(model.decode(&picture[0])?);
        }
    }
    Ok(drawn)
}
