//! Whether samples have the style that their captions ask for, decided by a linear classifier on the features of a network.
//!
//! The classifier is trained on true drawings and tested on true drawings of other concepts. Its accuracy there bounds what the
//! accuracy of samples can mean; so does its accuracy on reconstructions of the same drawings by the model's dVAE, which loses
//! detail that a style may consist of.

use anyhow::{Result, ensure};
use dalle_data::{Example, Split};
use dalle_model::burn::tensor::Device;
use image::RgbImage;
use serde::Serialize;

use crate::catalogue::{Catalogue, Described, Missing, by_hash, examples};
use crate::classifier::LinearClassifier;
use crate::feature_bank::{FeatureBank, Layer};

/// Share of the concepts whose drawings test the classifier.
const TEST_SHARE: f64 = 0.25;

/// The true drawings that a classifier is trained and tested on.
pub struct TrueDrawings<'a> {
    /// The styles, which are the classes.
    pub styles: Vec<&'a str>,
    /// The drawings to train on.
    pub train: Vec<Described<'a>>,
    /// The drawings of other concepts to test on.
    pub test: Vec<Described<'a>>,
}

impl<'a> TrueDrawings<'a> {
    /// At most `per_style` drawings of each style to train on, and a third as many to test on, chosen by hash.
    ///
    /// # Errors
    /// The dataset has fewer than two styles, or too few drawings of one.
    pub fn choose(catalogue: &'a Catalogue, per_style: usize) -> Result<Self> {
        let styles = catalogue.styles();
        ensure!(
            styles.len() > 1,
            Missing(format!(
                "expected a dataset with several styles, got {}; build one from several families",
                styles.len()
            ))
        );
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for style in &styles {
            let of_style = |image: &Described| {
                image.style() == *style && (image.about.is_drawing() || image.about.is_on_background())
            };
            let mut drawings: Vec<Described> = catalogue.images().filter(of_style).collect();
            by_hash(&mut drawings, "classifier");
            let (tests, trains): (Vec<Described>, Vec<Described>) =
                drawings.into_iter().partition(|drawing| is_test(drawing.example));
            ensure!(
                !tests.is_empty() && !trains.is_empty(),
                Missing(format!(
                    "the style `{style}` has {} drawings to train a classifier on and {} to test it on; expected at least one of each",
                    trains.len(),
                    tests.len()
                ))
            );
            train.extend(trains.into_iter().take(per_style));
            test.extend(tests.into_iter().take(per_style.div_ceil(3)));
        }
        Ok(Self { styles, train, test })
    }

    /// The class of an image.
    fn class(&self, image: &Described) -> usize {
        self.styles.iter().position(|style| *style == image.style()).unwrap_or_default()
    }

    /// The classes of images.
    pub fn classes(&self, images: &[Described]) -> Vec<usize> {
        images.iter().map(|image| self.class(image)).collect()
    }
}

/// Whether a drawing tests the classifier; the same for all drawings of a concept.
fn is_test(example: &Example) -> bool {
    Split::of(&format!("classifier {}", example.concept), TEST_SHARE) == Split::Val
}

/// A classifier of styles with its accuracy on drawings that it was not trained on.
pub struct StyleClassifier {
    classifier: LinearClassifier,
    /// Its description and accuracy.
    pub tested: Tested,
}

/// How well the classifier works on true drawings.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// The feature network.
    pub network: &'static str,
    /// Number of true drawings that it was trained on.
    pub trained_on: usize,
    /// Number of true drawings of other concepts that it was tested on.
    pub tested_on: usize,
    /// Share of these that it gives the right style.
    pub accuracy: f64,
    /// The same share of each style, in their order.
    pub per_style: Vec<f64>,
    /// Share of their reconstructions by the dVAE that it gives the right style, if the model has an encoder.
    pub reconstructed: Option<f64>,
}

impl StyleClassifier {
    /// Trains and tests a classifier. `reconstructions` are the test drawings after the dVAE's round trip.
    ///
    /// # Errors
    /// An image cannot be read, or the device fails.
    pub fn train(
        drawings: &TrueDrawings,
        reconstructions: Option<&[RgbImage]>,
        bank: &mut FeatureBank,
        device: &Device,
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let (train, test) = (examples(&drawings.train), examples(&drawings.test));
        let features = bank.of_examples(&train, Layer::Style, &mut progress)?;
        let labels = drawings.classes(&drawings.train);
        let classifier = LinearClassifier::train(&features, &labels, drawings.styles.len(), device)?;
        let truth = drawings.classes(&drawings.test);
        let features = bank.of_examples(&test, Layer::Style, |done| progress(train.len() + done))?;
        let predicted = classifier.predict(&features);
        let reconstructed = match reconstructions {
            Some(images) => {
                let features = bank.of_images(&images.iter().collect::<Vec<_>>(), Layer::Style, |done| {
                    progress(train.len() + test.len() + done);
                })?;
                Some(share_of(&classifier.predict(&features), &truth))
            }
            None => None,
        };
        let tested = Tested {
            network: bank.extractor.names().network,
            trained_on: train.len(),
            tested_on: test.len(),
            accuracy: share_of(&predicted, &truth),
            per_style: per_class(&predicted, &truth, drawings.styles.len()),
            reconstructed,
        };
        Ok(Self { classifier, tested })
    }

    /// Classifies samples. `asked` are the classes that their captions ask for.
    ///
    /// # Errors
    /// The device fails.
    pub fn evaluate(
        &self,
        styles: &[&str],
        asked: &[usize],
        samples: &[&RgbImage],
        bank: &FeatureBank,
        progress: impl FnMut(usize),
    ) -> Result<(StyleAccuracy, Vec<usize>)> {
        let predicted = self.classifier.predict(&bank.of_images(samples, Layer::Style, progress)?);
        let mut confusion = vec![vec![0; styles.len()]; styles.len()];
        for (&asked, &got) in asked.iter().zip(&predicted) {
            confusion[asked][got] += 1;
        }
        let result = StyleAccuracy {
            classifier: self.tested.clone(),
            styles: styles.iter().map(|style| (*style).to_owned()).collect(),
            samples: samples.len(),
            right: share_of(&predicted, asked),
            confusion,
        };
        Ok((result, predicted))
    }
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct StyleAccuracy {
    /// The classifier.
    pub classifier: Tested,
    /// The styles.
    pub styles: Vec<String>,
    /// Number of samples.
    pub samples: usize,
    /// Share of samples that are given the style that was asked for. Chance is 1 in the number of styles.
    pub right: f64,
    /// `[asked][given]`: number of samples.
    pub confusion: Vec<Vec<usize>>,
}

/// `count` drawings of the training split to ask for, the same number of each style, chosen by hash. Fewer if a style has fewer.
pub fn prompts<'a>(catalogue: &'a Catalogue, styles: &[&str], count: usize) -> Vec<Described<'a>> {
    let each = count.div_ceil(styles.len().max(1));
    let of_style = |style: &&str| {
        let mut drawings: Vec<Described> = catalogue
            .training()
            .filter(|image| image.about.is_drawing() && image.style() == *style)
            .collect();
        by_hash(&mut drawings, "style");
        drawings.truncate(each);
        drawings
    };
    styles.iter().flat_map(of_style).collect()
}

/// The share of predictions that are right.
pub fn share_of(predicted: &[usize], truth: &[usize]) -> f64 {
    predicted.iter().zip(truth).filter(|(a, b)| a == b).count() as f64 / truth.len().max(1) as f64
}

/// The share of right predictions of each class.
fn per_class(predicted: &[usize], truth: &[usize], classes: usize) -> Vec<f64> {
    let share = |class: usize| {
        let of_class = predicted.iter().zip(truth).filter(|(_, truth)| **truth == class);
        let (predicted, truth): (Vec<usize>, Vec<usize>) = of_class.unzip();
        share_of(&predicted, &truth)
    };
    (0..classes).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_per_class() {
        assert_eq!(share_of(&[0, 1, 2, 2], &[0, 1, 1, 2]), 0.75);
        assert_eq!(per_class(&[0, 1, 2, 2], &[0, 1, 1, 2], 3), [1.0, 0.5, 1.0]);
    }
}
