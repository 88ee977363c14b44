//! Reading image files from elsewhere, and writing those of a dataset. Only regular files are read, and their bytes and pixels are
//! bounded before anything is decoded: a pipe, a device or a decompression bomb is refused with its reason.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageReader, Limits, RgbImage,
};

/// Most bytes of an image file.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most pixels of an image: 8192 × 8192, beyond any camera in common use.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Longest side of an image in pixels.
pub const MAX_SIDE: u32 = 1 << 16;
/// Most bytes that decoding allocates: 64-bit pixels, the largest that PNG has, and buffers.
const MAX_ALLOCATED: u64 = MAX_PIXELS * 8 + (64 << 20);

/// Why an image file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// A folder, pipe or device.
    #[error("not a regular file")]
    NotAFile,
    /// The file is too large.
    #[error("has {bytes} bytes; at most {limit} are read")]
    TooManyBytes {
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// The image is too large.
    #[error(
        "is {width}×{height} pixels; expected at most {MAX_PIXELS} pixels ({MAX_SIDE} on a side); reduce it first"
    )]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// The system cannot read it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no image of a known format, or damaged.
    #[error("is not a usable image (PNG, JPEG or WebP): {0}")]
    Image(#[from] ImageError),
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

/// Reads and decodes an image file: PNG, JPEG or WebP, whatever its ending. Photos are turned upright (Exif orientation).
///
/// # Errors
/// It is no regular file, too large, or no image.
pub fn read_image(path: &Path) -> Result<DynamicImage, ImageFileError> {
    decode_image(&read_regular_file(path, MAX_BYTES)?)
}

/// Decodes the bytes of an image file, as [`read_image`] does.
///
/// # Errors
/// The image is too large, or this is no image.
pub fn decode_image(bytes: &[u8]) -> Result<DynamicImage, ImageFileError> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATED);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageFileError::TooManyPixels { width, height });
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The PNG of an image: the same bytes for the same pixels.
///
/// # Errors
/// It has no pixels.
pub fn encode_png(image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive).write_image(
        image,
        image.width(),
        image.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}
