//! Images to tokens and back, and the file format of a grid of tokens.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use dalle_model::config::DOWNSAMPLING;
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels};
use dalle_model::dvae::{Decoder, Encoder};
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

impl TokenGrid {
    /// The tokens of an image whose sides are multiples of 8.
    ///
    /// # Errors
    /// The device fails.
    pub fn encode(encoder: &Encoder, picture: &RgbImage) -> Result<Self> {
        let tokens = encode_pictures(encoder, std::slice::from_ref(picture))?.swap_remove(0);
        Ok(Self { grid: picture.width() as usize / DOWNSAMPLING, tokens })
    }

    /// Reads a `tokens.json` for a codebook of `vocab` entries.
    ///
    /// # Errors
    /// The file is missing, malformed, or holds tokens outside the codebook.
    pub fn read(path: &Path, vocab: usize) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let grid: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} is not a token file: expected {{\"grid\": N, \"tokens\": […]}}", path.display())
        })?;
        ensure!(
            grid.grid > 0 && !grid.tokens.is_empty() && grid.tokens.len().is_multiple_of(grid.grid),
            "{}: {} tokens do not fill rows of {}",
            path.display(),
            grid.tokens.len(),
            grid.grid
        );
        if let Some(token) = grid.tokens.iter().find(|token| usize::from(token.0) >= vocab) {
            return Err(anyhow!("{}: token {} is not below the codebook's {vocab}", path.display(), token.0));
        }
        Ok(grid)
    }
}

/// Reads an image whose sides are multiples of 8, on white where it is transparent.
///
/// # Errors
/// The file is missing, not an image, or of another size; the message names `image_size`, the model's own.
pub fn read_picture(path: &Path, image_size: usize) -> Result<RgbImage> {
    let picture =
        image::open(path).with_context(|| format!("cannot read the picture {}", path.display()))?.to_rgba8();
    let (width, height) = picture.dimensions();
    ensure!(
        [width, height].iter().all(|side| *side > 0 && (*side as usize).is_multiple_of(DOWNSAMPLING)),
        "{} is {width}×{height} pixels; both must be multiples of {DOWNSAMPLING}, {image_size}×{image_size} for pictures that \
         the prior knows",
        path.display(),
    );
    let mut white = RgbaImage::from_pixel(width, height, Rgba([u8::MAX; 4]));
    image::imageops::overlay(&mut white, &picture, 0, 0);
    Ok(DynamicImage::from(white).into_rgb8())
}

/// The tokens of images of one size, whose sides are multiples of 8.
///
/// # Errors
/// The device fails.
pub fn encode_pictures(encoder: &Encoder, pictures: &[RgbImage]) -> Result<Vec<Vec<ImageToken>>> {
    let Some(first) = pictures.first() else { return Ok(Vec::new()) };
    let (width, height) = (first.width() as usize, first.height() as usize);
    let bytes: Vec<&[u8]> = pictures.iter().map(|picture| picture.as_raw().as_slice()).collect();
    let x = images_to_tensor(&bytes, width, height, &encoder.device());
    let tokens = encoder.encode(map_pixels(x)).into_data();
    let tokens: Vec<ImageToken> = tokens
        .iter::<i64>()
        .map(|token| u16::try_from(token).map(ImageToken))
        .collect::<Result<_, _>>()
        .context("the encoder gave a token beyond 65535")?;
    Ok(tokens.chunks(tokens.len() / pictures.len()).map(<[ImageToken]>::to_vec).collect())
}

/// The image of a grid of tokens.
///
/// # Errors
/// The tokens do not fill rows of `width`.
pub fn decode_picture(decoder: &Decoder, tokens: &[ImageToken], width: usize) -> Result<RgbImage> {
    let rgb = decoder.decode_rgb(tokens, width)?;
    let side = |tokens: usize| (tokens * DOWNSAMPLING) as u32;
    RgbImage::from_raw(side(width), side(tokens.len() / width), rgb).context("an image of an impossible size")
}
