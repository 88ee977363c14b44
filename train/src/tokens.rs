//! Images to tokens and back, and the file format of a grid of tokens.

use std::borrow::Borrow;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use dalle_model::config::DOWNSAMPLING;
use dalle_model::dvae::{ImageDecoder, ImageEncoder};
use dalle_native::image_file::{self, MAX_PIXELS, read_regular_file};
use dalle_shared::ImageToken;
use image::{DynamicImage, RgbImage, Rgba, RgbaImage};
use serde::{Deserialize, Serialize};

/// The content of a `tokens.json`: one image's tokens in raster order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenGrid {
    /// Tokens in a row.
    pub grid: usize,
    /// Rows of `grid` tokens.
    pub tokens: Vec<ImageToken>,
}

/// Most bytes of a `tokens.json`: the largest grid, with room for white space.
const MAX_FILE: u64 = 32 << 20;
/// Most tokens of a grid: those of the largest image that is read.
const MAX_TOKENS: u64 = MAX_PIXELS / (DOWNSAMPLING * DOWNSAMPLING) as u64;

impl TokenGrid {
    /// The tokens of an image whose sides are multiples of 8.
    ///
    /// # Errors
    /// The device fails.
    pub fn encode(encoder: &ImageEncoder, image: &RgbImage) -> Result<Self> {
        let tokens = encode_images(encoder, &[image])?.swap_remove(0);
        Ok(Self { grid: image.width() as usize / DOWNSAMPLING, tokens })
    }

    /// Reads a `tokens.json` for a codebook of `vocab` entries.
    ///
    /// # Errors
    /// The file is missing, too large, malformed, or holds tokens outside the codebook.
    pub fn read(path: &Path, vocab: usize) -> Result<Self> {
        let at = path.display();
        let bytes = read_regular_file(path, MAX_FILE).with_context(|| format!("cannot read {at}"))?;
        let grid: Self = serde_json::from_slice(&bytes).with_context(|| {
            format!("{at} is not a token file: expected {{\"grid\": N, \"tokens\": […]}}")
        })?;
        ensure!(
            grid.grid > 0 && !grid.tokens.is_empty() && grid.tokens.len().is_multiple_of(grid.grid),
            "{at}: {} tokens do not fill rows of {}",
            grid.tokens.len(),
            grid.grid
        );
        ensure!(
            grid.tokens.len() as u64 <= MAX_TOKENS,
            "{at}: expected at most {MAX_TOKENS} tokens, got {}",
            grid.tokens.len()
        );
        if let Some(token) = grid.tokens.iter().find(|token| usize::from(token.0) >= vocab) {
            return Err(anyhow!("{at}: token {} is not below the codebook's {vocab}", token.0));
        }
        Ok(grid)
    }
}

/// Reads an image whose sides are multiples of 8, upright, on white where it is transparent.
///
/// # Errors
/// The file is missing, too large, not an image, or of another size; the message names `image_size`, the model's own.
pub fn read_image(path: &Path, image_size: usize) -> Result<RgbImage> {
    let image = image_file::read_image(path)
        .with_context(|| format!("cannot read the image {}", path.display()))?
        .into_rgba8();
    let (width, height) = image.dimensions();
    ensure!(
        [width, height].iter().all(|side| *side > 0 && (*side as usize).is_multiple_of(DOWNSAMPLING)),
        "{} is {width}×{height} pixels; both must be multiples of {DOWNSAMPLING}, {image_size}×{image_size} for images that the \
         prior knows",
        path.display(),
    );
    let mut white = RgbaImage::from_pixel(width, height, Rgba([u8::MAX; 4]));
    image::imageops::overlay(&mut white, &image, 0, 0);
    Ok(DynamicImage::from(white).into_rgb8())
}

/// The tokens of images of one size, whose sides are multiples of 8.
///
/// # Errors
/// The device fails.
pub fn encode_images(
    encoder: &ImageEncoder,
    images: &[impl Borrow<RgbImage>],
) -> Result<Vec<Vec<ImageToken>>> {
    let Some(first) = images.first() else { return Ok(Vec::new()) };
    let bytes: Vec<&[u8]> = images.iter().map(|image| image.borrow().as_raw().as_slice()).collect();
    Ok(encoder.encode(&bytes, first.borrow().width() as usize)?)
}

/// The image of a grid of tokens.
///
/// # Errors
/// The tokens do not fill rows of `width`.
pub fn decode_image(decoder: &ImageDecoder, tokens: &[ImageToken], width: usize) -> Result<RgbImage> {
    image_of(decoder.decode(tokens, width)?, tokens.len(), width)
}

/// The images of grids of tokens of one size, rows of `width`.
///
/// # Errors
/// As [`decode_image`].
pub fn decode_images(
    decoder: &ImageDecoder,
    grids: &[Vec<ImageToken>],
    width: usize,
) -> Result<Vec<RgbImage>> {
    let grids: Vec<&[ImageToken]> = grids.iter().map(Vec::as_slice).collect();
    let images = decoder.decode_batch(&grids, width)?;
    images.into_iter().zip(&grids).map(|(rgb, tokens)| image_of(rgb, tokens.len(), width)).collect()
}

/// RGB8 pixels of `count` tokens as an image.
fn image_of(rgb: Vec<u8>, count: usize, width: usize) -> Result<RgbImage> {
    let side = |tokens: usize| (tokens * DOWNSAMPLING) as u32;
    RgbImage::from_raw(side(width), side(count / width), rgb).context("an image of an impossible size")
}
