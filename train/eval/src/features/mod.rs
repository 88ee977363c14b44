//! Feature networks: they turn images into the features that Fréchet distances and cosine similarities are computed from.
//!
//! [`open`] loads a weights file as published (a PyTorch file of any version, or safetensors) and recognises the network by the
//! tensor names. To add a network, implement [`Extractor`] and add a case to [`from_arrays`].

mod clip;
mod extractor;
mod inception;
mod lite0;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dalle_model::burn::tensor::Device;
use image::RgbImage;
use rayon::prelude::*;

use clip::ClipFeatures;
use dalle_import::{Array, read_checkpoint, read_file};
use dalle_native::ModelFolder;
use inception::Inception;
use lite0::Lite0;
use weights::Weights;

pub use extractor::{Extracted, Extractor, Names};

/// Images per forward pass.
const BATCH: usize = 8;

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
        let Extracted { features, probabilities, textures } = extractor.extract(&prepared)?;
        all.features.extend(features);
        all.probabilities.extend(probabilities);
        all.textures.extend(textures);
        progress(all.features.len());
    }
    Ok(all)
}
