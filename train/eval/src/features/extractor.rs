//! The interface of a feature network, and what its implementations share.

use anyhow::Result;
use dalle_model::burn::tensor::activation::softmax;
use dalle_model::burn::tensor::{Device, Int, Tensor, TensorData};
use image::imageops::{self, FilterType};
use image::{Rgb32FImage, RgbImage};

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
    /// Means, standard deviations and correlations of the channels of early feature maps, in which the style of an image shows more
    /// than its content; empty if the network gives none.
    pub textures: Vec<Vec<f32>>,
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

/// Images resized to `side`×`side` pixels, `[B, 3, side, side]`, with values in 0..1. Bilinear, averaging over all pixels when an
/// image shrinks.
pub(super) fn to_tensor(images: &[RgbImage], side: u32, device: &Device) -> Tensor<4> {
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
pub(super) fn pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// Least product of two standard deviations, so that a constant channel correlates with none.
const CONSTANT: f32 = 1e-6;

/// Means of the channels over all positions, then their standard deviations, then with `correlated` the correlations of all pairs
/// of channels: `[B, C, H, W] → [B, 2·C]` or `[B, 2·C + C·(C − 1)/2]`.
pub(super) fn texture(x: Tensor<4>, correlated: bool) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    let x = x.reshape([batch, channels, height * width]);
    let mean = x.clone().mean_dim(2);
    let x = x - mean.clone();
    let deviation = x.clone().powi_scalar(2).mean_dim(2).sqrt();
    let mut parts = vec![mean.reshape([batch, channels]), deviation.clone().reshape([batch, channels])];
    if correlated {
        let covariance = x.clone().matmul(x.transpose()).div_scalar((height * width) as f32);
        let product = deviation.clone().matmul(deviation.transpose()).clamp_min(CONSTANT);
        let pairs: Vec<i64> = (0..channels)
            .flat_map(|row| (row + 1..channels).map(move |column| (row * channels + column) as i64))
            .collect();
        let pairs = Tensor::<1, Int>::from_data(TensorData::from(pairs.as_slice()), &covariance.device());
        parts.push((covariance / product).reshape([batch, channels * channels]).select(1, pairs));
    }
    Tensor::cat(parts, 1)
}

/// Features `[B, F]` and logits `[B, classes]` as rows.
pub(super) fn extracted(features: Tensor<2>, logits: Tensor<2>) -> Extracted {
    Extracted { features: rows(features), probabilities: rows(softmax(logits, 1)), textures: Vec::new() }
}

/// The rows of a matrix.
pub(super) fn rows(x: Tensor<2>) -> Vec<Vec<f32>> {
    let width = x.dims()[1];
    let values: Vec<f32> = x.into_data().iter::<f32>().collect();
    values.chunks(width).map(<[f32]>::to_vec).collect()
}
