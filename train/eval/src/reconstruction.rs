//! What the dVAE's round trip loses (section 2.1): a picture to its tokens and back.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::{Device, Int, Tensor, TensorData};
use dalle_model::dvae::{Decoder, Encoder};
use dalle_train::dvae_training::codebook_use;
use image::RgbImage;
use serde::Serialize;

use dalle_train::tokens::{decode_picture, encode_pictures};

use super::similarity::{WINDOW, mean_squared_error, psnr, ssim};

/// Loudness of a difference picture: a difference of one level shows as this many.
pub const DIFFERENCE_GAIN: u16 = 4;

/// The measure.
#[derive(Clone, Debug, Serialize)]
pub struct Reconstruction {
    /// Pictures.
    pub pictures: usize,
    /// Peak signal-to-noise ratio in dB, of the mean squared error over all pictures; infinite for none.
    pub psnr: f64,
    /// Structural similarity of the lumas (Wang et al. 2004), mean over the pictures.
    pub ssim: f64,
    /// Entries of the codebook.
    pub vocab: usize,
    /// Share of them that the pictures' tokens use.
    pub usage: f64,
    /// e to the power of the entropy of the tokens: as many entries, equally used, would say as much.
    pub perplexity: f64,
    /// Each picture.
    pub each: Vec<Loss>,
}

/// What one picture lost.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// Its key in the dataset.
    pub key: String,
    /// Mean squared error over its channels, in 0..255².
    pub squared_error: f64,
    /// Structural similarity.
    pub ssim: f64,
}

/// Sends named pictures through encoder and decoder. Also gives what came back. `progress` is called after each.
///
/// # Errors
/// There are none, or the device fails.
pub fn measure(
    encoder: &Encoder,
    decoder: &Decoder,
    vocab: usize,
    pictures: &[(&str, &RgbImage)],
    mut progress: impl FnMut(),
) -> Result<(Reconstruction, Vec<RgbImage>)> {
    ensure!(!pictures.is_empty(), "there are no pictures to reconstruct");
    ensure!(
        pictures.iter().all(|(_, picture)| picture.width().min(picture.height()) >= WINDOW),
        "SSIM compares windows of {WINDOW}×{WINDOW} pixels, the model's pictures are smaller"
    );
    let mut all_tokens: Vec<i32> = Vec::new();
    let mut each = Vec::with_capacity(pictures.len());
    let mut returned = Vec::with_capacity(pictures.len());
    for &(key, picture) in pictures {
        let tokens = encode_pictures(encoder, std::slice::from_ref(picture))?.swap_remove(0);
        all_tokens.extend(tokens.iter().map(|token| i32::from(token.0)));
        let width = picture.width() as usize / dalle_model::config::DOWNSAMPLING;
        let back = decode_picture(decoder, &tokens, width)?;
        each.push(Loss {
            key: key.to_owned(),
            squared_error: mean_squared_error(picture, &back),
            ssim: ssim(picture, &back),
        });
        returned.push(back);
        progress();
    }
    let mean = |of: fn(&Loss) -> f64| each.iter().map(of).sum::<f64>() / each.len() as f64;
    let count = all_tokens.len();
    let all_tokens: Tensor<1, Int> = Tensor::from_data(TensorData::new(all_tokens, [count]), &Device::flex());
    let (perplexity, usage) = codebook_use(all_tokens, vocab);
    let measure = Reconstruction {
        pictures: pictures.len(),
        psnr: psnr(mean(|loss| loss.squared_error)),
        ssim: mean(|loss| loss.ssim),
        vocab,
        usage: usage.into_scalar::<f64>(),
        perplexity: perplexity.into_scalar::<f64>(),
        each,
    };
    Ok((measure, returned))
}

/// |a − b|, louder, as a picture: black where nothing was lost.
pub fn difference(a: &RgbImage, b: &RgbImage) -> RgbImage {
    let louder = |a: u8, b: u8| (u16::from(a.abs_diff(b)) * DIFFERENCE_GAIN).min(255) as u8;
    RgbImage::from_fn(a.width(), a.height(), |x, y| {
        let (a, b) = (a.get_pixel(x, y).0, b.get_pixel(x, y).0);
        [louder(a[0], b[0]), louder(a[1], b[1]), louder(a[2], b[2])].into()
    })
}
