//! What choosing among more samples brings (figure 6 of the paper).
//!
//! For M captions the model has seen, chosen by hash, as many samples as the greatest N asks for, once. For each N, the best of the
//! first N by the contrastive model's score: their mean score, and the share whose nearest true drawing is the right one, which is
//! a judge that took no part in the choice (see [`retrieval`](super::retrieval)).

use anyhow::Result;
use dalle_model::clip::best_first;
use dalle_shared::SamplingSettings;
use image::RgbImage;
use serde::Serialize;

use dalle_data::Example;

use super::at_size;
use super::retrieval::{ranks_of, share_within};
use crate::reranking::{Judge, draw, scores};
use crate::sampling::{Model, Order};

/// What choosing among `n` samples gives.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Samples of each caption.
    pub n: usize,
    /// Mean score of the best.
    pub score: f64,
    /// Share of the best whose nearest drawing is the right one.
    pub top_1: f64,
    /// Share with the right one among the nearest five.
    pub top_5: f64,
}

/// A caption's true drawing, and the best of each N.
pub struct Row {
    /// The caption.
    pub caption: String,
    /// The true drawing, at the model's size.
    pub drawing: RgbImage,
    /// For each N the picture and its score.
    pub best: Vec<(RgbImage, f32)>,
}

/// Draws and chooses, for each number in `ns`. `progress` is called with the number of tokens sampled.
///
/// # Errors
/// The model cannot be sampled.
pub fn measure(
    model: &mut Model,
    judge: &Judge,
    examples: &[&Example],
    ns: &[usize],
    sampling: SamplingSettings,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<(Vec<Point>, Vec<Row>)> {
    let greatest = ns.iter().copied().max().unwrap_or(0);
    let tokens_each = greatest * model.config.geometry().image_length();
    let mut rows = Vec::with_capacity(examples.len());
    for (place, example) in examples.iter().enumerate() {
        let caption = example.captions.main();
        let order = Order { caption: &caption, samples: greatest, seed, prefix: &[] };
        let candidates = draw(model, judge, &order, sampling, |done| {
            progress(place * tokens_each + done);
        })?;
        let scores = scores(&candidates);
        let best = |&n: &usize| {
            let chosen = &candidates[best_first(&scores[..n])[0]];
            (chosen.picture.clone(), chosen.score)
        };
        rows.push(Row {
            caption,
            drawing: at_size(example, model.config.image_size),
            best: ns.iter().map(best).collect(),
        });
    }
    let drawings: Vec<&RgbImage> = rows.iter().map(|row| &row.drawing).collect();
    let point = |(place, &n): (usize, &usize)| {
        let samples: Vec<&RgbImage> = rows.iter().map(|row| &row.best[place].0).collect();
        let ranks = ranks_of(&drawings, &samples);
        let score = rows.iter().map(|row| f64::from(row.best[place].1)).sum::<f64>() / rows.len() as f64;
        Point { n, score, top_1: share_within(&ranks, 1), top_5: share_within(&ranks, 5) }
    };
    let points = ns.iter().enumerate().map(point).collect();
    Ok((points, rows))
}
