//! An image that a client sends: decoded within limits, upright, cropped to a square of the model's size; and the rows of it that are
//! kept according to a mask.

use dalle_native::image_file::{Bounds, ImageFile};
use image::imageops::{FilterType, crop_imm, resize};
use image::{ImageFormat, Rgba, RgbaImage};

use crate::error_response::ErrorResponse;

/// Maximum side of an image in pixels.
const MAX_SIDE: u32 = 4096;
/// The images that are read: OpenAI's kinds.
const READ: Bounds = Bounds {
    formats: &[ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP],
    pixels: (MAX_SIDE as u64) * (MAX_SIDE as u64),
    side: MAX_SIDE,
};
/// Pixels of less opacity count as transparent.
const OPAQUE: u8 = 128;

/// A square image of the model's size.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture(RgbaImage);

impl Picture {
    /// Decodes a file, and crops and scales it to `side` pixels. `field` names it in errors.
    ///
    /// # Errors
    /// It is no PNG, JPEG or WebP, is cut short or damaged, or is larger than 4096×4096 pixels.
    pub fn decode(field: &str, bytes: &[u8], side: usize) -> Result<Self, ErrorResponse> {
        let image = ImageFile::open(bytes, READ).and_then(ImageFile::decode).map_err(|cause| {
            let message = format!(
                "expected a PNG, JPEG or WebP file of at most {MAX_SIDE}×{MAX_SIDE} pixels; this file {cause}"
            );
            ErrorResponse::invalid(field, message)
        })?;
        let image = image.into_rgba8();
        let (width, height) = image.dimensions();
        let square = width.min(height);
        let image = crop_imm(&image, (width - square) / 2, (height - square) / 2, square, square).to_image();
        let side = u32::try_from(side).unwrap_or(MAX_SIDE);
        Ok(Self(if square == side { image } else { resize(&image, side, side, FilterType::Lanczos3) }))
    }

    /// RGB8 pixels, on white where the image is transparent.
    pub fn pixels(&self) -> Vec<u8> {
        let on_white = |&Rgba([r, g, b, alpha]): &Rgba<u8>| {
            let blend = |value: u8| {
                let (value, alpha) = (u32::from(value), u32::from(alpha));
                ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            };
            [blend(r), blend(g), blend(b)]
        };
        self.0.pixels().flat_map(on_white).collect()
    }

    /// Number of rows of `grid` token rows that a mask keeps: those above its transparent part. None if no pixel is transparent.
    ///
    /// # Errors
    /// The transparent part does not reach from some row down to the bottom.
    pub fn kept_rows(&self, grid: usize) -> Result<Option<usize>, ErrorResponse> {
        let transparent =
            |row: &mut image::buffer::Pixels<'_, Rgba<u8>>| row.filter(|pixel| pixel.0[3] < OPAQUE).count();
        let counts: Vec<usize> = self.0.rows().map(|mut row| transparent(&mut row)).collect();
        let Some(first) = counts.iter().position(|count| *count > 0) else { return Ok(None) };
        if counts[first..].iter().any(|count| *count < counts.len()) {
            let message = "this model keeps the top rows of an image and generates the rest: expected a mask that is transparent from \
                one row down to the bottom, over the whole width";
            return Err(ErrorResponse::invalid("mask", message));
        }
        Ok(Some(first * grid / counts.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::DynamicImage;

    use super::*;

    fn png(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = RgbaImage::from_fn(width, height, |x, y| Rgba(pixel(x, y)));
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn an_image_is_cropped_to_its_middle_and_shown_on_white() {
        let wide = png(32, 16, |x, _| if (8..24).contains(&x) { [10, 20, 30, 255] } else { [0, 0, 0, 255] });
        assert_eq!(Picture::decode("image", &wide, 16).unwrap().pixels(), [10, 20, 30].repeat(256));
        let clear = png(8, 8, |_, _| [0, 0, 0, 0]);
        assert_eq!(Picture::decode("image", &clear, 16).unwrap().pixels(), [255; 768]);
    }

    #[test]
    fn files_that_are_no_images_or_too_large_are_refused() {
        let whole = png(16, 16, |x, y| [x as u8, y as u8, 0, 255]);
        for bad in [&b""[..], b"<html>", &whole[..whole.len() / 2], &png(MAX_SIDE + 1, 1, |_, _| [0; 4])] {
            let refused = Picture::decode("image", bad, 16).unwrap_err();
            assert_eq!(refused.error.field.as_deref(), Some("image"));
        }
    }

    #[test]
    fn an_image_that_is_cut_short_is_refused_in_every_kind_that_is_read() {
        let image = DynamicImage::from(RgbaImage::from_fn(64, 64, |x, y| {
            Rgba([(x * 37 % 256) as u8, (y * 91 % 256) as u8, (x * y % 256) as u8, 255])
        }));
        for &format in READ.formats {
            let mut whole = Cursor::new(Vec::new());
            let image = if format == ImageFormat::Jpeg { image.to_rgb8().into() } else { image.clone() };
            image.write_to(&mut whole, format).unwrap();
            let whole = whole.into_inner();
            assert!(Picture::decode("image", &whole, 16).is_ok(), "{format:?}");
            for percent in [10, 50, 90, 99] {
                let refused =
                    Picture::decode("image", &whole[..whole.len() * percent / 100], 16).unwrap_err();
                assert!(
                    refused.error.message.contains("is cut short"),
                    "{format:?}: {}",
                    refused.error.message
                );
            }
        }
    }

    #[test]
    fn a_mask_keeps_the_rows_above_its_transparent_part() {
        let kept = |mask: &dyn Fn(u32, u32) -> bool| {
            let mask = png(64, 64, |x, y| if mask(x, y) { [0; 4] } else { [0, 0, 0, 255] });
            Picture::decode("mask", &mask, 64).unwrap().kept_rows(8)
        };
        assert_eq!(kept(&|_, y| y >= 32), Ok(Some(4)));
        assert_eq!(kept(&|_, y| y >= 39), Ok(Some(4)), "a row of tokens is kept or generated as a whole");
        assert_eq!(kept(&|_, _| true), Ok(Some(0)));
        assert_eq!(kept(&|_, _| false), Ok(None));
        for other in
            [&(|x: u32, y: u32| x > 20 && y > 20) as &dyn Fn(u32, u32) -> bool, &|_, y| y < 32, &|x, _| x < 9]
        {
            assert_eq!(kept(other).unwrap_err().error.field.as_deref(), Some("mask"));
        }
    }
}
