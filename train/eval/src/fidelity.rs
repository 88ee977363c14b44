//! Fréchet distance and Inception Score of sampled pictures against true ones, over the radius of a blur on both
//! (section 3.1, figure 9): what a dVAE loses is fine detail, and blurring takes it from both sides.

use anyhow::Result;
use image::RgbImage;
use serde::Serialize;

use super::features::{Extractor, extract_all};
use super::frechet::{Gaussian, frechet_distance, inception_score};
use super::gaussian::blur;

/// Radii of the paper's sweep: standard deviations of the Gaussian in pixels.
pub const RADII: [f32; 5] = [0.0, 1.0, 2.0, 4.0, 8.0];
/// Most parts over which the Inception Score is averaged (Salimans et al.).
const MAX_PARTS: usize = 10;
/// Fewest pictures of a part, unless there are fewer: of one picture alone the score is 1.
const PART: usize = 100;

/// The measure, and what it was measured with.
#[derive(Clone, Debug, Serialize)]
pub struct Fidelity {
    /// The network whose features were compared.
    pub network: &'static str,
    /// What its Fréchet distance is called.
    pub distance: &'static str,
    /// What the score of its classes is called.
    pub score: &'static str,
    /// Pictures on each side.
    pub pictures: usize,
    /// Length of the features. With no more pictures than that the distance is far above its limit, and figures compare only
    /// at equal numbers of pictures.
    pub features: usize,
    /// Parts over which the scores are means.
    pub parts: usize,
    /// One row for each radius.
    pub rows: Vec<Row>,
}

impl Fidelity {
    /// A score as it is written: with its deviation if there is more than one part.
    pub fn show(&self, score: Option<(f64, f64)>) -> String {
        match score {
            Some((mean, deviation)) if self.parts > 1 => format!("{mean:.2} ± {deviation:.2}"),
            Some((mean, _)) => format!("{mean:.2}"),
            None => "–".to_owned(),
        }
    }
}

/// The measure at one radius.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Standard deviation of the blur in pixels.
    pub radius: f32,
    /// Fréchet distance between true and sampled pictures.
    pub distance: f64,
    /// Score of the samples: mean over the parts, and its standard deviation (0 for one part).
    pub score: Option<(f64, f64)>,
    /// That of the true pictures: what a perfect model would reach.
    pub true_score: Option<(f64, f64)>,
}

/// Compares `samples` with `truth` at each radius. `progress` gets the number of pictures seen, of
/// `2 · pictures · radii`.
///
/// # Errors
/// There are too few pictures, or the device fails.
pub fn measure(
    extractor: &dyn Extractor,
    truth: &[&RgbImage],
    samples: &[&RgbImage],
    radii: &[f32],
    mut progress: impl FnMut(usize),
) -> Result<Fidelity> {
    let names = extractor.names();
    let parts = (truth.len() / PART).clamp(1, MAX_PARTS);
    let mut seen = 0;
    let mut width = 0;
    let mut side = |pictures: &[&RgbImage], radius: f32| -> Result<(Gaussian, Option<(f64, f64)>)> {
        let blurred = |picture: &RgbImage| blur(picture, radius);
        let extracted = extract_all(extractor, pictures, blurred, |done| progress(seen + done))?;
        seen += pictures.len();
        width = extracted.features.first().map_or(0, Vec::len);
        let known = !extracted.probabilities.is_empty();
        let score = known.then(|| inception_score(&extracted.probabilities, parts)).transpose()?;
        Ok((Gaussian::of(&extracted.features)?, score))
    };
    let mut rows = Vec::with_capacity(radii.len());
    for &radius in radii {
        let (of_truth, true_score) = side(truth, radius)?;
        let (of_samples, score) = side(samples, radius)?;
        rows.push(Row { radius, distance: frechet_distance(&of_truth, &of_samples)?, score, true_score });
    }
    Ok(Fidelity {
        network: names.network,
        distance: names.distance,
        score: names.score,
        pictures: truth.len(),
        features: width,
        parts,
        rows,
    })
}
