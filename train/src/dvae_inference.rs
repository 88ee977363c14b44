//! The dVAE on many images at once: by `dalle-kernels` on the processor, where that is several times faster than Burn, and by
//! Burn elsewhere. Both give the same tokens, unless two codes of the codebook are equally likely up to rounding.

use std::borrow::Borrow;

use anyhow::{Context, Result};
use dalle_kernels::dvae as kernels;
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::config::{DOWNSAMPLING, DvaeConfig};
use dalle_model::dvae::{Decoder, Encoder};
use dalle_shared::ImageToken;
use image::RgbImage;
use rayon::prelude::*;

use crate::dvae_kernels::sizes;
use crate::flat;
use crate::tokens::{decode_image, encode_images};

/// Encodes images that are all of one size.
pub(crate) enum ImageEncoder<'a> {
    Kernels(Box<kernels::Encoder>),
    Burn(&'a Encoder),
}

impl<'a> ImageEncoder<'a> {
    pub fn new(encoder: &'a Encoder, config: &DvaeConfig) -> Self {
        if encoder.device() != Device::flex() {
            return Self::Burn(encoder);
        }
        let mut parameters = Vec::new();
        flat::read(encoder, &mut parameters);
        Self::Kernels(Box::new(kernels::Encoder::new(sizes(config), &parameters)))
    }

    /// The tokens of images whose sides are multiples of 8, in raster order.
    ///
    /// # Errors
    /// The device fails.
    pub fn encode(&self, images: &[impl Borrow<RgbImage> + Sync]) -> Result<Vec<Vec<ImageToken>>> {
        match self {
            Self::Burn(encoder) => encode_images(encoder, images),
            Self::Kernels(encoder) => {
                let tokens = images.par_iter().map(|image| {
                    let image = image.borrow();
                    let tokens = encoder.encode(image.as_raw(), image.width() as usize);
                    tokens.into_iter().map(ImageToken).collect()
                });
                Ok(tokens.collect())
            }
        }
    }
}

/// Decodes grids of tokens.
pub(crate) enum ImageDecoder<'a> {
    Kernels(Box<kernels::Decoder>),
    Burn(&'a Decoder),
}

impl<'a> ImageDecoder<'a> {
    pub fn new(decoder: &'a Decoder, config: &DvaeConfig) -> Self {
        if decoder.devices() != [Device::flex()] {
            return Self::Burn(decoder);
        }
        let mut parameters = Vec::new();
        flat::read(decoder, &mut parameters);
        Self::Kernels(Box::new(kernels::Decoder::new(sizes(config), &parameters)))
    }

    /// The images of some grids of tokens, rows of `width`, that [`ImageEncoder::encode`] returned.
    ///
    /// # Errors
    /// The device fails.
    pub fn decode(&self, grids: &[Vec<ImageToken>], width: usize) -> Result<Vec<RgbImage>> {
        match self {
            Self::Burn(decoder) => grids.iter().map(|tokens| decode_image(decoder, tokens, width)).collect(),
            Self::Kernels(decoder) => {
                let images = grids.par_iter().map(|tokens| {
                    let tokens: Vec<u16> = tokens.iter().map(|token| token.0).collect();
                    let side = |tokens: usize| (tokens * DOWNSAMPLING) as u32;
                    let rgb = decoder.decode(&tokens, width);
                    RgbImage::from_raw(side(width), side(tokens.len() / width), rgb)
                        .context("an image of an impossible size")
                });
                images.collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn the_kernels_give_the_tokens_and_images_of_burn() {
        let _random = crate::DEVICE_RANDOM.lock();
        let config = DvaeConfig { n_hid: 8, n_init: 16, blocks_per_group: 1, vocab: 64 };
        let device = Device::flex();
        device.seed(7);
        let (encoder, decoder) = (Encoder::new(&config, &device), Decoder::new(&config, &device));
        let image = |number: u32| {
            RgbImage::from_fn(40, 24, |x, y| {
                Rgb([x * 6, y * 10, (x * y + number * 40) % 256].map(|value| value as u8))
            })
        };
        let images: Vec<RgbImage> = (0..5).map(image).collect();
        let by_kernels = ImageEncoder::new(&encoder, &config);
        assert!(matches!(by_kernels, ImageEncoder::Kernels(_)));
        let tokens = by_kernels.encode(&images).unwrap();
        assert_eq!(tokens, ImageEncoder::Burn(&encoder).encode(&images).unwrap());
        assert!(tokens[0] != tokens[1] && tokens[0].len() == 15, "{tokens:?}");

        let by_kernels = ImageDecoder::new(&decoder, &config);
        assert!(matches!(by_kernels, ImageDecoder::Kernels(_)));
        let decoded = by_kernels.decode(&tokens, 5).unwrap();
        for (ours, burns) in decoded.iter().zip(ImageDecoder::Burn(&decoder).decode(&tokens, 5).unwrap()) {
            assert_eq!(ours.dimensions(), (40, 24));
            // Sums are rounded in another order: some values are on the other side of a half.
            assert!(ours.iter().zip(burns.iter()).all(|(ours, burns)| ours.abs_diff(*burns) <= 1));
        }
    }
}
