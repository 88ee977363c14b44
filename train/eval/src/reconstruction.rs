//! Reconstruction quality of the dVAE (section 2.1): images are encoded into tokens and decoded again.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::{Device, Int, Tensor, TensorData};
use dalle_model::config::DOWNSAMPLING;
use dalle_model::dvae::{ImageDecoder, ImageEncoder};
use dalle_train::dvae_training::codebook_use;
use dalle_train::tokens::{decode_image, encode_images};
use image::RgbImage;
use serde::Serialize;

use crate::similarity::{WINDOW, mean_squared_error, psnr, ssim};

/// Factor by which [`difference`] amplifies.
pub const DIFFERENCE_GAIN: u16 = 4;

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Reconstruction {
    /// Number of images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Peak signal-to-noise ratio in dB, from the mean squared error over all images; infinite for an error of 0.
    pub psnr: f64,
    /// Structural similarity of the lumas (Wang et al. 2004), mean over the images.
    pub ssim: f64,
    /// Number of codebook entries.
    pub vocab: usize,
    /// Share of the codebook entries that occur.
    pub usage: f64,
    /// Codebook perplexity: e to the entropy of the tokens, the effective number of entries in use.
    pub perplexity: f64,
    /// Each image.
    pub each: Vec<ImageQuality>,
}

/// Reconstruction quality of one image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageQuality {
    /// Its key in the dataset.
    pub key: String,
    /// Mean squared error over all channels, in 0..255².
    pub squared_error: f64,
    /// Structural similarity of the luma.
    pub ssim: f64,
}

/// Encodes and decodes images, given with their keys. Also returns the reconstructions. `progress` is called after each image.
///
/// # Errors
/// There are no images, an image is smaller than SSIM's window, or the device fails.
pub fn evaluate(
    encoder: &ImageEncoder,
    decoder: &ImageDecoder,
    vocab: usize,
    images: &[(&str, &RgbImage)],
    mut progress: impl FnMut(),
) -> Result<(Reconstruction, Vec<RgbImage>)> {
    ensure!(!images.is_empty(), "there are no images to reconstruct");
    ensure!(
        images.iter().all(|(_, image)| image.width().min(image.height()) >= WINDOW),
        "SSIM compares windows of {WINDOW}×{WINDOW} pixels, but the model's images are smaller"
    );
    let mut all_tokens: Vec<i32> = Vec::new();
    let mut each = Vec::with_capacity(images.len());
    let mut reconstructions = Vec::with_capacity(images.len());
    for &(key, image) in images {
        let tokens = encode_images(encoder, std::slice::from_ref(image))?.swap_remove(0);
        all_tokens.extend(tokens.iter().map(|token| i32::from(token.0)));
        let reconstruction = decode_image(decoder, &tokens, image.width() as usize / DOWNSAMPLING)?;
        each.push(ImageQuality {
            key: key.to_owned(),
            squared_error: mean_squared_error(image, &reconstruction),
            ssim: ssim(image, &reconstruction),
        });
        reconstructions.push(reconstruction);
        progress();
    }
    let mean = |of: fn(&ImageQuality) -> f64| each.iter().map(of).sum::<f64>() / each.len() as f64;
    let count = all_tokens.len();
    let all_tokens: Tensor<1, Int> = Tensor::from_data(TensorData::new(all_tokens, [count]), &Device::flex());
    let (perplexity, usage) = codebook_use(all_tokens, vocab);
    let result = Reconstruction {
        images: images.len(),
        psnr: psnr(mean(|quality| quality.squared_error)),
        ssim: mean(|quality| quality.ssim),
        vocab,
        usage: usage.into_scalar::<f64>(),
        perplexity: perplexity.into_scalar::<f64>(),
        each,
    };
    Ok((result, reconstructions))
}

/// |a − b|, amplified by [`DIFFERENCE_GAIN`]; black where the images are equal.
pub fn difference(a: &RgbImage, b: &RgbImage) -> RgbImage {
    let amplified = |a: u8, b: u8| (u16::from(a.abs_diff(b)) * DIFFERENCE_GAIN).min(255) as u8;
    RgbImage::from_fn(a.width(), a.height(), |x, y| {
        let (a, b) = (a.get_pixel(x, y).0, b.get_pixel(x, y).0);
        [amplified(a[0], b[0]), amplified(a[1], b[1]), amplified(a[2], b[2])].into()
    })
}
