//! Image files from elsewhere, as the programs read them: upright, whole, and within bounds.
//!
//! [`read_image`] reads a file, [`ImageFile`] the bytes of one. PNG, JPEG, WebP, GIF (its first frame), BMP and TIFF are read, whatever
//! the file's ending. A file that is cut short or damaged is an error, never a picture that is grey in part. A file of another kind,
//! such as a HEIC photo or a web page, is named in the error with what to do. Bytes and pixels are bounded before anything is decoded:
//! a pipe, a device or a decompression bomb is refused.

mod error;
mod foreign;
mod jpeg;
mod tiff;
mod whole;

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use self::tiff::Tiff;
pub use error::ImageFileError;
use foreign::Foreign;
use jpeg::Jpeg;

/// Most bytes of an image file.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most pixels of an image: 8192 × 8192, beyond any camera in common use.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Longest side of an image in pixels.
pub const MAX_SIDE: u32 = 1 << 16;
/// Bytes of a pixel in the largest form that is decoded, with 16 bits per channel.
const MAX_PIXEL: u64 = 8;
/// Bytes for buffers while decoding.
const BUFFERS: u64 = 64 << 20;

/// The kinds of image files that are read.
pub const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

/// Which images are read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Kinds of files.
    pub formats: &'static [ImageFormat],
    /// Most pixels.
    pub pixels: u64,
    /// Longest side in pixels.
    pub side: u32,
}

impl Bounds {
    /// For files on disk: every known kind, and the size of any camera.
    pub const FILES: Self = Self { formats: &FORMATS, pixels: MAX_PIXELS, side: MAX_SIDE };
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// It is no regular file, larger, or cannot be read.
pub fn read_regular_file(path: &Path, limit: u64) -> Result<Vec<u8>, ImageFileError> {
    // Opening a pipe would wait for a writer, so the kind of file is checked first.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ImageFileError::NotAFile);
    }
    if metadata.len() > limit {
        return Err(ImageFileError::TooManyBytes { bytes: metadata.len(), limit });
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > limit => Err(ImageFileError::TooManyBytes { bytes: read, limit }),
        _ => Ok(bytes),
    }
}

/// Reads and decodes an image file of any known kind, whatever its ending. Photos are turned upright (Exif orientation).
///
/// # Errors
/// It is no regular file, too large, cut short, damaged, or no image.
pub fn read_image(path: &Path) -> Result<DynamicImage, ImageFileError> {
    ImageFile::open(&read_regular_file(path, MAX_BYTES)?, Bounds::FILES)?.decode()
}

/// An image file of which the header was read: it is of a known kind, whole and within the bounds.
pub struct ImageFile<'a> {
    decoder: Decoder<'a>,
    orientation: Orientation,
}

enum Decoder<'a> {
    Jpeg(Box<Jpeg<'a>>),
    Tiff(Box<Tiff<'a>>),
    Other(Box<dyn ImageDecoder + 'a>),
}

impl<'a> ImageFile<'a> {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// It is too large, cut short, damaged, or no image of the kinds that `bounds` lists.
    pub fn open(bytes: &'a [u8], bounds: Bounds) -> Result<Self, ImageFileError> {
        if bytes.is_empty() {
            return Err(ImageFileError::Empty);
        }
        let format = match image::guess_format(bytes) {
            Ok(format) if bounds.formats.contains(&format) => format,
            _ => {
                let unknown = ImageFileError::Unknown(bounds.formats);
                return Err(Foreign::of(bytes).map_or(unknown, ImageFileError::Foreign));
            }
        };
        if !whole::is_whole(bytes, format) {
            return Err(ImageFileError::CutShort);
        }
        let memory = bounds.pixels * MAX_PIXEL + BUFFERS;
        let mut file = match format {
            ImageFormat::Jpeg => {
                let jpeg = Jpeg::open(bytes)?;
                let orientation = jpeg.orientation();
                Self { decoder: Decoder::Jpeg(Box::new(jpeg)), orientation }
            }
            ImageFormat::Tiff => {
                let tiff = Tiff::open(bytes, memory)?;
                let orientation = tiff.orientation();
                Self { decoder: Decoder::Tiff(Box::new(tiff)), orientation }
            }
            _ => {
                let mut limits = Limits::no_limits();
                limits.max_alloc = Some(memory);
                let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
                reader.limits(limits);
                Self {
                    decoder: Decoder::Other(Box::new(reader.into_decoder()?)),
                    orientation: Orientation::NoTransforms,
                }
            }
        };
        let (width, height) = file.stored();
        let Bounds { pixels, side, .. } = bounds;
        if width.max(height) > side || u64::from(width) * u64::from(height) > pixels {
            return Err(ImageFileError::TooManyPixels { width, height, pixels, side });
        }
        if let Decoder::Other(decoder) = &mut file.decoder {
            file.orientation = decoder.orientation()?;
        }
        Ok(file)
    }

    /// Width and height as they are stored, before it is turned upright.
    fn stored(&self) -> (u32, u32) {
        match &self.decoder {
            Decoder::Jpeg(jpeg) => jpeg.dimensions(),
            Decoder::Tiff(tiff) => tiff.dimensions(),
            Decoder::Other(decoder) => decoder.dimensions(),
        }
    }

    /// Bytes that decoding takes at most: the pixels, a copy that is upright or has another number of channels, and what the
    /// decoder keeps.
    pub fn memory(&self) -> u64 {
        let (width, height) = self.stored();
        let pixel = match &self.decoder {
            // Three channels twice, and of a progressive file 16 bits per coefficient.
            Decoder::Jpeg(_) => 3 + 4 + 6,
            Decoder::Tiff(_) => 2 * MAX_PIXEL + 4,
            Decoder::Other(decoder) => 2 * u64::from(decoder.color_type().bytes_per_pixel()) + 4,
        };
        u64::from(width) * u64::from(height) * pixel
    }

    /// Decodes the image and turns it upright.
    ///
    /// # Errors
    /// It is cut short or damaged.
    pub fn decode(self) -> Result<DynamicImage, ImageFileError> {
        let mut image = match self.decoder {
            Decoder::Jpeg(jpeg) => jpeg.decode()?,
            Decoder::Tiff(tiff) => tiff.decode()?,
            Decoder::Other(decoder) => DynamicImage::from_decoder(decoder)?,
        };
        image.apply_orientation(self.orientation);
        Ok(image)
    }
}
