//! JPEG files, decoded strictly: `image` fills the rest of a damaged scan with grey and reports nothing.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::error::ImageFileError;

/// A file of which the header was read.
pub struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    width: u32,
    height: u32,
    grey: bool,
}

impl<'a> Jpeg<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is damaged.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ImageFileError> {
        // Cameras write headers with bytes between the segments, which harm nothing: only the scans are read strictly.
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(usize::MAX)
            .set_max_height(usize::MAX);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(damaged)?;
        let dimensions = decoder.dimensions().zip(decoder.input_colorspace());
        let ((width, height), colours) = dimensions.ok_or_else(|| damaged("it has no size"))?;
        let side = |side: usize| u32::try_from(side).map_err(damaged);
        Ok(Self { width: side(width)?, height: side(height)?, grey: colours == ColorSpace::Luma, decoder })
    }

    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// How its Exif data say that it is shown.
    pub fn orientation(&self) -> Orientation {
        let exif = self.decoder.exif();
        exif.and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms)
    }

    /// Decodes the pixels: grey, or RGB whatever the file's colours.
    ///
    /// # Errors
    /// The scans are damaged or cut short.
    pub fn decode(mut self) -> Result<DynamicImage, ImageFileError> {
        let colours = if self.grey { ColorSpace::Luma } else { ColorSpace::RGB };
        let options = self.decoder.options().jpeg_set_out_colorspace(colours).set_strict_mode(true);
        self.decoder.set_options(options);
        let pixels = self.decoder.decode().map_err(damaged)?;
        let image = match self.grey {
            true => GrayImage::from_raw(self.width, self.height, pixels).map(DynamicImage::from),
            false => RgbImage::from_raw(self.width, self.height, pixels).map(DynamicImage::from),
        };
        image.ok_or_else(|| damaged("it has too few pixels"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn damaged(error: impl ToString) -> ImageFileError {
    ImageFileError::Damaged(error.to_string())
}
