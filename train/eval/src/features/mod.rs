//! Networks that turn a picture into features, behind one small trait: what a Fréchet distance or a cosine is taken of.
//!
//! [`open`] reads a file of weights as its makers published it (PyTorch's files of any age, or safetensors) and knows the
//! network by the names in it. A network of another kind joins by implementing [`Extractor`] and one line in [`open`].

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

/// Pictures that go through a network together.
const BATCH: usize = 8;

/// What is measured with a network is called after it: only Inception's own may be called FID and IS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The network.
    pub network: &'static str,
    /// The Fréchet distance between its features.
    pub distance: &'static str,
    /// The score of its class probabilities.
    pub score: &'static str,
}

/// What a network says of some pictures, a row for each.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// Features, all rows of one length.
    pub features: Vec<Vec<f32>>,
    /// Probabilities of the classes it knows; no rows if it knows none.
    pub probabilities: Vec<Vec<f32>>,
}

/// A network that turns pictures into features.
pub trait Extractor {
    /// What to call it and what it measures.
    fn names(&self) -> Names;

    /// Features of a few pictures of any sizes, as many as fit the device together.
    ///
    /// # Errors
    /// The device fails.
    fn extract(&self, pictures: &[RgbImage]) -> Result<Extracted>;
}

/// The network whose weights are in `path`: a file, or a model folder with a contrastive model.
///
/// # Errors
/// The file cannot be read, is damaged, or holds the weights of another network.
pub fn open(path: &Path, device: &Device) -> Result<Box<dyn Extractor>> {
    if path.is_dir() {
        return Ok(Box::new(ClipFeatures::open(&ModelFolder::open(path)?, device)?));
    }
    let arrays = read_checkpoint(&read_file(path)?, &[]).with_context(|| path.display().to_string())?;
    from_arrays(arrays, device).with_context(|| path.display().to_string())
}

/// The network that these tensors are the weights of.
///
/// # Errors
/// They are those of another network.
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

/// Features of many pictures, each after `prepare`; `progress` gets the number done.
///
/// # Errors
/// The device fails.
pub fn extract_all(
    extractor: &dyn Extractor,
    pictures: &[&RgbImage],
    prepare: impl Fn(&RgbImage) -> RgbImage + Sync,
    mut progress: impl FnMut(usize),
) -> Result<Extracted> {
    let mut all = Extracted::default();
    for chunk in pictures.chunks(BATCH) {
        let prepared: Vec<RgbImage> = chunk.par_iter().map(|picture| prepare(picture)).collect();
        let Extracted { features, probabilities } = extractor.extract(&prepared)?;
        all.features.extend(features);
        all.probabilities.extend(probabilities);
        progress(all.features.len());
    }
    Ok(all)
}

/// Pictures at `side`×`side` pixels, `[B, 3, side, side]`, with values of 0..1; bilinear, over all pixels where it shrinks.
fn to_tensor(pictures: &[RgbImage], side: u32, device: &Device) -> Tensor<4> {
    let mut values = Vec::with_capacity(pictures.len() * 3 * (side * side) as usize);
    for picture in pictures {
        let (width, height) = picture.dimensions();
        let exact = Rgb32FImage::from_fn(width, height, |x, y| {
            picture.get_pixel(x, y).0.map(|byte| f32::from(byte) / 255.0).into()
        });
        values.extend_from_slice(imageops::resize(&exact, side, side, FilterType::Triangle).as_raw());
    }
    let data = TensorData::new(values, [pictures.len(), side as usize, side as usize, 3]);
    Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2])
}

/// Mean over places of `[B, C, H, W]`, `[B, C]`.
fn pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// `[B, F]` and `[B, classes]` as rows.
fn extracted(features: Tensor<2>, logits: Tensor<2>) -> Extracted {
    let rows = |x: Tensor<2>| -> Vec<Vec<f32>> {
        let width = x.dims()[1];
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        values.chunks(width).map(<[f32]>::to_vec).collect()
    };
    Extracted { features: rows(features), probabilities: rows(softmax(logits, 1)) }
}
