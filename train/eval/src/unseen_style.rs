//! Drawings of a concept in a style that training never shows it in: whether samples are the drawing that was held out, and which
//! training images they are near to.
//!
//! Each sample is compared with the held-out drawing of its caption and with other drawings of the same style, by pixels (L2 of
//! 32×32 RGB) and by the features of a network (cosine).

use anyhow::{Result, ensure};
use dalle_data::HeldOut;
use dalle_model::burn::tensor::Device;
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Missing, by_hash, examples};
use crate::feature_bank::{FeatureBank, Layer, cosine};
use crate::one_and_best::OneAndBest;
use crate::overlap::nearest_pairs;
use crate::resized;
use crate::retrieval::{rank, reduce, share_within};

/// Cosines in the table of nearest training images.
pub const COSINES: [f32; 5] = [0.99, 0.95, 0.9, 0.85, 0.8];

/// The held-out drawings with the drawings of their style that they are told apart from.
pub struct Question<'a> {
    /// The held-out drawing.
    pub drawing: Described<'a>,
    /// Drawings of the same style; the first is the held-out one.
    pub among: Vec<Described<'a>>,
}

/// `count` drawings that are held out for their style, chosen by hash, each with `among` − 1 drawings of other concepts in its
/// style. Fewer if there are fewer.
///
/// # Errors
/// The dataset holds out no styles, or a style has fewer drawings than `among`.
pub fn questions(catalogue: &Catalogue, count: Option<usize>, among: usize) -> Result<Vec<Question<'_>>> {
    let mut held_out: Vec<Described> = catalogue
        .images()
        .filter(|image| image.about.is_drawing() && image.is_held_out_for(HeldOut::Style))
        .collect();
    ensure!(
        !held_out.is_empty(),
        Missing("expected a dataset that holds out concepts in one style, got none; build it from a recipe with `held_out.styles`".to_owned())
    );
    by_hash(&mut held_out, "unseen style");
    held_out.truncate(count.unwrap_or(usize::MAX));
    let question = |drawing| Ok(Question { drawing, among: among_style(catalogue, drawing, among)? });
    held_out.into_iter().map(question).collect()
}

/// `drawing` followed by drawings of other concepts in its style, chosen by hash.
fn among_style<'a>(
    catalogue: &'a Catalogue,
    drawing: Described<'a>,
    among: usize,
) -> Result<Vec<Described<'a>>> {
    let other = |image: &Described| {
        image.about.is_drawing()
            && image.style() == drawing.style()
            && image.example.concept != drawing.example.concept
    };
    let mut others: Vec<Described> = catalogue.images().filter(other).collect();
    let available = others.len() + 1;
    ensure!(
        available >= among,
        Missing(format!(
            "the style `{}` has {available} drawings, expected at least {among}; choose a smaller --among",
            drawing.style()
        ))
    );
    by_hash(&mut others, &drawing.example.key);
    others.truncate(among - 1);
    others.insert(0, drawing);
    Ok(others)
}

/// Shares of samples that are nearest to the held-out drawing of their caption.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// Top-1 by pixels.
    pub pixels_top_1: f64,
    /// Top-5 by pixels.
    pub pixels_top_5: f64,
    /// Top-1 by features.
    pub features_top_1: f64,
    /// Top-5 by features.
    pub features_top_5: f64,
}

/// How a training image is related to the drawing that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kinship {
    /// The same concept in another style.
    SameConcept,
    /// Another concept in the same style.
    SameStyle,
    /// Neither.
    Neither,
}

/// The training image that is nearest to a sample.
#[derive(Clone, Debug, Serialize)]
pub struct Nearest {
    /// The sample's caption.
    pub caption: String,
    /// Key of the held-out drawing.
    pub held_out: String,
    /// Key of the training image.
    pub train: String,
    /// Cosine of the features of sample and training image.
    pub cosine: f32,
    /// Cosine of the features of the held-out drawing and the training image nearest to it.
    pub held_out_cosine: f32,
    /// Cosine of the features of sample and held-out drawing.
    pub own_cosine: f32,
    /// What the training image shows.
    pub kinship: Kinship,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct UnseenStyle {
    /// The feature network.
    pub network: &'static str,
    /// Number of captions.
    pub captions: usize,
    /// Number of drawings of one style that each is told apart from, itself included. Chance is 1 in this number.
    pub among: usize,
    /// Samples per caption that the best is selected from; 1 without CLIP.
    pub best_of: usize,
    /// The first samples.
    pub one: Shares,
    /// The best samples.
    pub best: Shares,
    /// Number of training images that were searched.
    pub training_images: usize,
    /// The training image nearest to each best sample, nearest first.
    pub nearest: Vec<Nearest>,
}

/// Images of a result, in the order of its `nearest`.
pub struct NearestImages {
    /// The held-out drawing.
    pub drawing: RgbImage,
    /// The best sample.
    pub sample: RgbImage,
    /// The training image nearest to the sample.
    pub train: RgbImage,
}

/// Compares samples with the drawings of their style and with all drawings of the training split. `samples` belong to `questions`.
/// `progress` is called with the number of images whose features are known.
///
/// # Errors
/// An image cannot be read, or the device fails.
pub fn evaluate(
    catalogue: &Catalogue,
    questions: &[Question],
    samples: &[OneAndBest],
    best_of: usize,
    bank: &mut FeatureBank,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Result<(UnseenStyle, Vec<NearestImages>)> {
    let size = samples.first().map_or(0, |sample| sample.one.width() as usize);
    let training: Vec<Described> = catalogue.training().filter(|image| image.about.is_drawing()).collect();
    let training_features = bank.of_examples(&examples(&training), Layer::Content, &mut progress)?;
    let done = training.len();
    let features_of = |bank: &FeatureBank,
                       of: fn(&OneAndBest) -> &RgbImage,
                       begun: usize,
                       progress: &mut dyn FnMut(usize)| {
        bank.of_images(&samples.iter().map(of).collect::<Vec<_>>(), Layer::Content, |more| {
            progress(begun + more);
        })
    };
    let one = features_of(bank, |sample| &sample.one, done, &mut progress)?;
    let best = features_of(bank, |sample| &sample.best, done + samples.len(), &mut progress)?;
    let drawings: Vec<Described> = questions.iter().map(|question| question.drawing).collect();
    let own = bank.of_examples(&examples(&drawings), Layer::Content, |_| ())?;
    let mut ranks: [Vec<usize>; 4] = Default::default();
    for (index, (question, sample)) in questions.iter().zip(samples).enumerate() {
        let features = bank.of_examples(&examples(&question.among), Layer::Content, |_| ())?;
        let pixels = question
            .among
            .iter()
            .map(|image| Ok(reduce(&resized(image.example, size)?)))
            .collect::<Result<Vec<_>>>()?;
        ranks[0].push(rank(&pixels, 0, &reduce(&sample.one)));
        ranks[1].push(rank_by_cosine(&features, 0, &one[index]));
        ranks[2].push(rank(&pixels, 0, &reduce(&sample.best)));
        ranks[3].push(rank_by_cosine(&features, 0, &best[index]));
    }
    let shares = |pixels: &[usize], features: &[usize]| Shares {
        pixels_top_1: share_within(pixels, 1),
        pixels_top_5: share_within(pixels, 5),
        features_top_1: share_within(features, 1),
        features_top_5: share_within(features, 5),
    };
    let mut held_out_cosines = vec![0.0; questions.len()];
    for pair in nearest_pairs(&training_features, &own, device)? {
        held_out_cosines[pair.validation] = pair.cosine;
    }
    let (mut nearest, mut images) = (Vec::new(), Vec::new());
    for pair in nearest_pairs(&training_features, &best, device)? {
        let (drawing, train) = (drawings[pair.validation], training[pair.train]);
        nearest.push(Nearest {
            caption: catalogue.prompt(drawing).caption,
            held_out: drawing.example.key.clone(),
            train: train.example.key.clone(),
            cosine: pair.cosine,
            held_out_cosine: held_out_cosines[pair.validation],
            own_cosine: cosine(&best[pair.validation], &own[pair.validation]),
            kinship: kinship(&drawing, &train),
        });
        images.push(NearestImages {
            drawing: resized(drawing.example, size)?,
            sample: samples[pair.validation].best.clone(),
            train: resized(train.example, size)?,
        });
    }
    let result = UnseenStyle {
        network: bank.extractor.names().network,
        captions: questions.len(),
        among: questions.first().map_or(0, |question| question.among.len()),
        best_of,
        one: shares(&ranks[0], &ranks[1]),
        best: shares(&ranks[2], &ranks[3]),
        training_images: training.len(),
        nearest,
    };
    Ok((result, images))
}

fn kinship(asked: &Described, train: &Described) -> Kinship {
    if asked.example.concept == train.example.concept {
        Kinship::SameConcept
    } else if asked.style() == train.style() {
        Kinship::SameStyle
    } else {
        Kinship::Neither
    }
}

/// The rank, from 1, of the row `own` among all, by cosine with a sample. A tie counts against it.
pub fn rank_by_cosine(rows: &[Vec<f32>], own: usize, sample: &[f32]) -> usize {
    let reference = cosine(&rows[own], sample);
    1 + rows
        .iter()
        .enumerate()
        .filter(|(other, row)| *other != own && cosine(row, sample) >= reference)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_cosine_ignore_lengths_and_count_ties_against_the_sample() {
        let rows = [vec![1.0, 0.0], vec![0.0, 5.0], vec![4.0, 0.0], vec![1.0, 1.0]];
        assert_eq!(rank_by_cosine(&rows, 1, &[0.1, 1.0]), 1);
        assert_eq!(rank_by_cosine(&rows, 0, &[2.0, 0.1]), 2, "the third row has the same direction");
        assert_eq!(rank_by_cosine(&rows, 3, &[1.0, -0.1]), 3);
    }
}
