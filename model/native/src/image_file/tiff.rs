//! TIFF files: grey, RGB and CMYK, with 8 or 16 bits.

use std::io::{self, Cursor};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageBuffer, RgbImage};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::error::ImageFileError;

/// A file of which the header was read.
pub struct Tiff<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    width: u32,
    height: u32,
    colours: ColorType,
    orientation: Orientation,
}

impl<'a> Tiff<'a> {
    /// Reads the header of the first image. Decoding takes at most `memory` bytes.
    ///
    /// # Errors
    /// It is damaged.
    pub fn open(bytes: &'a [u8], memory: u64) -> Result<Self, ImageFileError> {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = usize::try_from(memory).unwrap_or(usize::MAX);
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(damaged)?;
        let colours = decoder.colortype().map_err(damaged)?;
        let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).map_err(damaged)?;
        let orientation = orientation.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
        Ok(Self { decoder, width, height, colours, orientation })
    }

    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// How it is shown.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Decodes the pixels.
    ///
    /// # Errors
    /// They are cut short or damaged, or of a kind that is not supported.
    pub fn decode(mut self) -> Result<DynamicImage, ImageFileError> {
        let (width, height) = (self.width, self.height);
        let pixels = self.decoder.read_image().map_err(damaged)?;
        let image = match (self.colours, pixels) {
            (ColorType::Gray(8), DecodingResult::U8(v)) => {
                GrayImage::from_raw(width, height, v).map(DynamicImage::from)
            }
            (ColorType::Gray(1), DecodingResult::U8(v)) => {
                GrayImage::from_raw(width, height, bits(&v, width)).map(DynamicImage::from)
            }
            (ColorType::GrayA(8), DecodingResult::U8(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLumaA8)
            }
            (ColorType::RGB(8), DecodingResult::U8(v)) => {
                RgbImage::from_raw(width, height, v).map(DynamicImage::from)
            }
            (ColorType::RGBA(8), DecodingResult::U8(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgba8)
            }
            (ColorType::CMYK(8), DecodingResult::U8(v)) => {
                RgbImage::from_raw(width, height, rgb_of_cmyk(&v)).map(DynamicImage::from)
            }
            (ColorType::Gray(16), DecodingResult::U16(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLuma16)
            }
            (ColorType::GrayA(16), DecodingResult::U16(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLumaA16)
            }
            (ColorType::RGB(16), DecodingResult::U16(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgb16)
            }
            (ColorType::RGBA(16), DecodingResult::U16(v)) => {
                ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgba16)
            }
            (other, _) => {
                return Err(ImageFileError::Damaged(format!(
                    "TIFF with pixels {other:?}, which are not read; convert it to PNG"
                )));
            }
        };
        image.ok_or_else(|| ImageFileError::Damaged("it has too few pixels".to_owned()))
    }
}

fn damaged(error: TiffError) -> ImageFileError {
    match error {
        TiffError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => ImageFileError::CutShort,
        error => ImageFileError::Damaged(error.to_string()),
    }
}

/// Pixels of one bit, each row of which begins with a new byte, as bytes.
fn bits(packed: &[u8], width: u32) -> Vec<u8> {
    let width = width as usize;
    let rows = packed.chunks_exact(width.div_ceil(8).max(1));
    let pixel = |row: &[u8], x: usize| if row[x / 8] >> (7 - x % 8) & 1 == 1 { u8::MAX } else { 0 };
    rows.flat_map(|row| (0..width).map(move |x| pixel(row, x))).collect()
}

fn rgb_of_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let left = |ink: u8, black: u8| {
        let product = u16::from(u8::MAX - ink) * u16::from(u8::MAX - black);
        ((product + 127) / 255) as u8
    };
    let pixels = cmyk.chunks_exact(4);
    pixels.flat_map(|ink| [left(ink[0], ink[3]), left(ink[1], ink[3]), left(ink[2], ink[3])]).collect()
}
