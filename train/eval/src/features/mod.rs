//! Feature networks: they turn images into the features that Fréchet distances and cosine similarities are computed from.
//!
//! [`open`] loads a weights file as published (a PyTorch file of any version, or safetensors) and recognises the network by the
//! tensor names. To add a network, implement [`Extractor`] and add a case to [`from_arrays`].

mod clip;
mod inception;
mod lite0;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dalle_model::burn::tensor::activation::softmax;
use dalle_model::burn::tensor::{Device, Tensor, TensorData};
use image::imageops::{self, FilterType};
use image::{Rgb32FImage, RgbImage};
use rayon::prelude::*;

use clip::ClipFeatures;
use dalle_import::{Array, read_checkpoint, read_file};
use dalle_native::ModelFolder;
use inception::Inception;
use lite0::Lite0;
use weights::Weights;

/// Images per forward pass.
const BATCH: usize = 8;

/// Names of a network and of the metrics computed with it: only Inception's may be called FID and IS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The network.
    pub network: &'static str,
    /// The Fréchet distance between its features.
    pub distance: &'static str,
    /// The score of its class probabilities.
    pub score: &'static str,
}

/// A network's output, one row per image.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// Features, rows of equal length.
    pub features: Vec<Vec<f32>>,
    /// Class probabilities; empty if the network has no classes.
    pub probabilities: Vec<Vec<f32>>,
}

/// A network that turns images into features.
pub trait Extractor {
    /// Names of the network and its metrics.
    fn names(&self) -> Names;

    /// Features of a batch of images of any sizes.
    ///
    /// # Errors
    /// The device fails.
    fn extract(&self, images: &[RgbImage]) -> Result<Extracted>;
}

/// Loads the network whose weights are in `path`: a weights file, or a model folder with CLIP.
///
/// # Errors
/// The file cannot be read, is damaged, or contains the weights of an unknown network.
pub fn open(path: &Path, device: &Device) -> Result<Box<dyn Extractor>> {
    if path.is_dir() {
        return Ok(Box::new(ClipFeatures::open(&ModelFolder::open(path)?, device)?));
    }
    let arrays = read_checkpoint(&read_file(path)?, &[]).with_context(|| path.display().to_string())?;
    from_arrays(arrays, device).with_context(|| path.display().to_string())
}

/// Builds the network that the tensors belong to.
///
/// # Errors
/// They belong to an unknown network.
pub fn from_arrays(arrays: BTreeMap<String, Array>, device: &Device) -> Result<Box<dyn Extractor>> {
    let mut weights = Weights::new(arrays, device);
    let network: Box<dyn Extractor> = if weights.has("_conv_stem.weight") {
        Box::new(Lite0::new(&mut weights)?)
    } else if weights.has("Conv2d_1a_3x3.conv.weight") {
        Box::new(Inception::new(&mut weights)?)
    } else {
        bail!(
            "expected the weights of EfficientNet-Lite0 (`_conv_stem.weight`, …) or Inception v3 (`Conv2d_1a_3x3.conv.weight`, …)"
        )
    };
    weights.finish()?;
    Ok(network)
}

/// Features of many images, each after `prepare`. `progress` is called with the number of images done.
///
/// # Errors
/// The device fails.
pub fn extract_all(
    extractor: &dyn Extractor,
    images: &[&RgbImage],
    prepare: impl Fn(&RgbImage) -> RgbImage + Sync,
    mut progress: impl FnMut(usize),
) -> Result<Extracted> {
    let mut all = Extracted::default();
    for chunk in images.chunks(BATCH) {
        let prepared: Vec<RgbImage> = chunk.par_iter().map(|image| prepare(image)).collect();
        let Extracted { features, probabilities } = extractor.extract(&prepared)?;
        all.features.extend(features);
        all.probabilities.extend(probabilities);
        progress(all.features.len());
    }
    Ok(all)
}

/// Images resized to `side`×`side` pixels, `[B, 3, side, side]`, with values in 0..1. Bilinear, averaging over all pixels when an
/// image shrinks.
fn to_tensor(images: &[RgbImage], side: u32, device: &Device) -> Tensor<4> {
    let mut values = Vec::with_capacity(images.len() * 3 * (side * side) as usize);
    for image in images {
        let (width, height) = image.dimensions();
        let exact = Rgb32FImage::from_fn(width, height, |x, y| {
            image.get_pixel(x, y).0.map(|byte| f32::from(byte) / 255.0).into()
        });
        values.extend_from_slice(imageops::resize(&exact, side, side, FilterType::Triangle).as_raw());
    }
    let data = TensorData::new(values, [images.len(), side as usize, side as usize, 3]);
    Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2])
}

/// Mean over positions: `[B, C, H, W] → [B, C]`.
fn pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// Features `[B, F]` and logits `[B, classes]` as rows.
fn extracted(features: Tensor<2>, logits: Tensor<2>) -> Extracted {
    let rows = |x: Tensor<2>| -> Vec<Vec<f32>> {
        let width = x.dims()[1];
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        values.chunks(width).map(<[f32]>::to_vec).collect()
    };
    Extracted { features: rows(features), probabilities: rows(softmax(logits, 1)) }
}
