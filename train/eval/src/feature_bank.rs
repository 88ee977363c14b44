//! Features of a dataset's images and of samples, each computed once by one feature network.

use std::collections::HashMap;

use anyhow::Result;
use dalle_data::Example;
use image::RgbImage;

use crate::features::{Extracted, Extractor, extract_all};
use crate::resized;

/// Images that are in memory at the same time.
const READ_TOGETHER: usize = 512;

/// Which features of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Those of the last feature map: what an image shows.
    Content,
    /// Those of early feature maps: how it is drawn. The same as [`Layer::Content`] for networks that give no others.
    Style,
}

impl Layer {
    fn of(self, extracted: Extracted) -> Vec<Vec<f32>> {
        match self {
            Self::Style if !extracted.textures.is_empty() => extracted.textures,
            _ => extracted.features,
        }
    }
}

/// A feature network with the features of the images it has seen.
pub struct FeatureBank {
    /// The feature network.
    pub extractor: Box<dyn Extractor>,
    /// Side to which images of the dataset are resized.
    image_size: usize,
    /// Features for content and for style, by key of the dataset.
    known: HashMap<String, [Vec<f32>; 2]>,
}

impl FeatureBank {
    /// Features by this network, of images at a model's image size.
    pub fn new(extractor: Box<dyn Extractor>, image_size: usize) -> Self {
        Self { extractor, image_size, known: HashMap::new() }
    }

    /// The features of examples. `progress` is called with the number of images done.
    ///
    /// # Errors
    /// An image cannot be read, or the device fails.
    pub fn of_examples(
        &mut self,
        examples: &[&Example],
        layer: Layer,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<f32>>> {
        let unknown: Vec<&&Example> =
            examples.iter().filter(|example| !self.known.contains_key(&example.key)).collect();
        let mut done = examples.len() - unknown.len();
        for chunk in unknown.chunks(READ_TOGETHER) {
            let images: Vec<RgbImage> =
                chunk.iter().map(|example| resized(example, self.image_size)).collect::<Result<_>>()?;
            let images: Vec<&RgbImage> = images.iter().collect();
            let extracted =
                extract_all(&*self.extractor, &images, RgbImage::clone, |more| progress(done + more))?;
            done += chunk.len();
            let features = Layer::Content.of(extracted.clone()).into_iter().zip(Layer::Style.of(extracted));
            let keys = chunk.iter().map(|example| example.key.clone());
            self.known.extend(keys.zip(features.map(|(content, style)| [content, style])));
        }
        Ok(examples.iter().map(|example| self.known[&example.key][layer as usize].clone()).collect())
    }

    /// The features of other images.
    ///
    /// # Errors
    /// The device fails.
    pub fn of_images(
        &self,
        images: &[&RgbImage],
        layer: Layer,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<f32>>> {
        Ok(layer.of(extract_all(&*self.extractor, images, RgbImage::clone, progress)?))
    }
}

/// The cosine similarity of two rows.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}
