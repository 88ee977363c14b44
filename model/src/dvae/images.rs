//! Images to tokens and back on native devices: on the CPU by `dalle-kernels`, on others by the networks on Burn.
//!
//! The kernels are the same networks, written by hand, and several times faster; images
//! differ by at most 1/255 and tokens only where two codebook entries are equally likely but for rounding.

use burn::module::Module;
use burn::tensor::ExecutionError;
use dalle_kernels::dvae as kernels;
use dalle_shared::ImageToken;

use super::decoder::check_grid;
use super::pixels::{images_to_tensor, map_pixels};
use super::{DecodeError, Decoder, Encoder};
use crate::config::DvaeConfig;
use crate::has_kernels;
use crate::weights::read_values;

/// The sizes of a dVAE, as `dalle-kernels` names them.
pub fn kernel_sizes(config: &DvaeConfig) -> kernels::DvaeSizes {
    let DvaeConfig { n_hid, n_init, blocks_per_group, vocab } = *config;
    kernels::DvaeSizes { n_hid, n_init, blocks_per_group, vocab }
}

fn values(module: &impl Module) -> Vec<f32> {
    let mut values = Vec::new();
    read_values(module, &mut values);
    values
}

/// Decodes tokens into images.
#[derive(Debug)]
pub struct ImageDecoder(Decoding);

#[derive(Debug)]
enum Decoding {
    Kernels(Box<kernels::Decoder>),
    Network(Box<Decoder>),
}

impl ImageDecoder {
    /// Decodes with the weights of `decoder` on its device.
    pub fn new(decoder: Decoder) -> Self {
        Self(if has_kernels(&decoder.device()) {
            Decoding::Kernels(Box::new(kernels::Decoder::new(
                kernel_sizes(&decoder.config()),
                &values(&decoder),
            )))
        } else {
            Decoding::Network(Box::new(decoder))
        })
    }

    /// The image of one grid of tokens in raster order, rows of `width`: RGB8, eight times as many rows and columns.
    ///
    /// # Errors
    /// The tokens do not fill rows of `width`, one is not in the codebook, or the device fails.
    pub fn decode(&self, tokens: &[ImageToken], width: usize) -> Result<Vec<u8>, DecodeError> {
        match &self.0 {
            Decoding::Kernels(decoder) => {
                check_grid(tokens, width, decoder.vocab())?;
                Ok(decoder.decode(&plain(tokens), width))
            }
            Decoding::Network(decoder) => decoder.decode_rgb(tokens, width),
        }
    }

    /// [`decode`](Self::decode) of several grids of one size, faster than one after the other.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_batch(&self, grids: &[&[ImageToken]], width: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
        match &self.0 {
            Decoding::Kernels(decoder) => {
                for tokens in grids {
                    check_grid(tokens, width, decoder.vocab())?;
                }
                let grids: Vec<Vec<u16>> = grids.iter().map(|tokens| plain(tokens)).collect();
                let grids: Vec<&[u16]> = grids.iter().map(Vec::as_slice).collect();
                Ok(decoder.decode_batch(&grids, width))
            }
            Decoding::Network(decoder) => decoder.decode_rgb_batch(grids, width),
        }
    }
}

fn plain(tokens: &[ImageToken]) -> Vec<u16> {
    tokens.iter().map(|token| token.0).collect()
}

/// Encodes images into tokens.
#[derive(Debug)]
pub struct ImageEncoder(Encoding);

#[derive(Debug)]
enum Encoding {
    Kernels(Box<kernels::Encoder>),
    Network(Box<Encoder>),
}

impl ImageEncoder {
    /// Encodes with the weights of `encoder` on its device.
    pub fn new(encoder: Encoder) -> Self {
        Self(if has_kernels(&encoder.device()) {
            Encoding::Kernels(Box::new(kernels::Encoder::new(
                kernel_sizes(&encoder.config()),
                &values(&encoder),
            )))
        } else {
            Encoding::Network(Box::new(encoder))
        })
    }

    /// The most likely tokens of each image in raster order: RGB8 images of one size, rows of `width` pixels, both sides multiples
    /// of 8.
    ///
    /// # Errors
    /// The device fails.
    ///
    /// # Panics
    /// If the images do not have one size, or a side is not a multiple of 8.
    pub fn encode(&self, images: &[&[u8]], width: usize) -> Result<Vec<Vec<ImageToken>>, ExecutionError> {
        match &self.0 {
            Encoding::Kernels(encoder) => {
                let tokens = encoder.encode_batch(images, width);
                Ok(tokens.into_iter().map(|tokens| tokens.into_iter().map(ImageToken).collect()).collect())
            }
            Encoding::Network(encoder) => {
                let Some(first) = images.first() else { return Ok(Vec::new()) };
                let x = images_to_tensor(images, width, first.len() / (3 * width), &encoder.device());
                let tokens = encoder.encode(map_pixels(x)).try_into_data()?;
                // A codebook has at most 65,536 entries.
                let tokens: Vec<ImageToken> = tokens.iter::<u16>().map(ImageToken).collect();
                Ok(tokens.chunks(tokens.len() / images.len()).map(<[ImageToken]>::to_vec).collect())
            }
        }
    }
}
