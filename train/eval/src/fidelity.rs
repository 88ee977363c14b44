//! Fréchet distance and Inception Score of samples against true images, over the radius of a blur on both (section 3.1, figure 9).
//!
//! The dVAE loses fine detail; blurring removes it from both sides and shows what remains of the distance.

use anyhow::Result;
use image::RgbImage;
use serde::Serialize;

use crate::blur::blur;
use crate::features::{Extractor, extract_all};
use crate::frechet::{Gaussian, frechet_distance, inception_score};

/// The paper's radii: standard deviations of the Gaussian in pixels.
pub const RADII: [f32; 5] = [0.0, 1.0, 2.0, 4.0, 8.0];
/// Maximum number of splits over which the Inception Score is averaged (Salimans et al.).
const MAX_SPLITS: usize = 10;
/// Minimum number of images per split, unless there are fewer in total: the score of a single image is always 1.
const SPLIT_SIZE: usize = 100;

/// The result, and the network it was computed with.
#[derive(Clone, Debug, Serialize)]
pub struct Fidelity {
    /// The feature network.
    pub network: &'static str,
    /// Name of the Fréchet distance between its features.
    pub distance: &'static str,
    /// Name of the score of its class probabilities.
    pub score: &'static str,
    /// Number of images on each side.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Number of features. With no more images than features, the distance is biased far upwards, and results are comparable only
    /// at equal numbers of images.
    pub features: usize,
    /// Number of splits over which scores are averaged.
    #[serde(rename = "parts")]
    pub splits: usize,
    /// One row per radius.
    pub rows: Vec<BlurRow>,
}

impl Fidelity {
    /// Formats a score, with its deviation if there is more than one split.
    pub fn format_score(&self, score: Option<(f64, f64)>) -> String {
        match score {
            Some((mean, deviation)) if self.splits > 1 => format!("{mean:.2} ± {deviation:.2}"),
            Some((mean, _)) => format!("{mean:.2}"),
            None => "–".to_owned(),
        }
    }
}

/// The metrics at one radius.
#[derive(Clone, Debug, Serialize)]
pub struct BlurRow {
    /// Standard deviation of the blur in pixels.
    pub radius: f32,
    /// Fréchet distance between true images and samples.
    pub distance: f64,
    /// Score of the samples: mean and standard deviation over the splits (0 for one split).
    pub score: Option<(f64, f64)>,
    /// Score of the true images, which a perfect model would reach.
    pub true_score: Option<(f64, f64)>,
}

/// Compares `samples` with `truth` at each radius. `progress` is called with the number of images processed, up to
/// `2 · images · radii`.
///
/// # Errors
/// There are too few images, or the device fails.
pub fn evaluate(
    extractor: &dyn Extractor,
    truth: &[&RgbImage],
    samples: &[&RgbImage],
    radii: &[f32],
    mut progress: impl FnMut(usize),
) -> Result<Fidelity> {
    let names = extractor.names();
    let splits = (truth.len() / SPLIT_SIZE).clamp(1, MAX_SPLITS);
    let mut processed = 0;
    let mut width = 0;
    let mut side = |images: &[&RgbImage], radius: f32| -> Result<(Gaussian, Option<(f64, f64)>)> {
        let blurred = |image: &RgbImage| blur(image, radius);
        let extracted = extract_all(extractor, images, blurred, |done| progress(processed + done))?;
        processed += images.len();
        width = extracted.features.first().map_or(0, Vec::len);
        let has_classes = !extracted.probabilities.is_empty();
        let score = has_classes.then(|| inception_score(&extracted.probabilities, splits)).transpose()?;
        Ok((Gaussian::of(&extracted.features)?, score))
    };
    let mut rows = Vec::with_capacity(radii.len());
    for &radius in radii {
        let (of_truth, true_score) = side(truth, radius)?;
        let (of_samples, score) = side(samples, radius)?;
        rows.push(BlurRow { radius, distance: frechet_distance(&of_truth, &of_samples)?, score, true_score });
    }
    Ok(Fidelity {
        network: names.network,
        distance: names.distance,
        score: names.score,
        images: truth.len(),
        features: width,
        splits,
        rows,
    })
}
