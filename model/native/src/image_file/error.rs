//! Why an image file cannot be used.

use std::io;

use image::{ImageError, ImageFormat};

use super::foreign::Foreign;

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
        "is {width}×{height} pixels; expected at most {pixels} pixels ({side} on a side); reduce it first"
    )]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Most pixels.
        pixels: u64,
        /// Longest side.
        side: u32,
    },
    /// The system cannot read it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is empty.
    #[error("is empty; copy or download it again")]
    Empty,
    /// Its end is missing.
    #[error("is cut short: its end is missing; copy or download it again")]
    CutShort,
    /// It is something else.
    #[error("is {}; {}", .0.what, .0.remedy)]
    Foreign(Foreign),
    /// It is no known kind of image.
    #[error("is not a usable image: expected one of {}", names(.0))]
    Unknown(&'static [ImageFormat]),
    /// It is damaged, or uses a part of its format that is not supported.
    #[error("is not a usable image: {0}")]
    Damaged(String),
}

/// Names of formats in a sentence.
fn names(formats: &[ImageFormat]) -> String {
    let name = |format: &ImageFormat| match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        other => other.extensions_str().first().copied().unwrap_or("another"),
    };
    formats.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl From<ImageError> for ImageFileError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::CutShort,
            error => Self::Damaged(error.to_string()),
        }
    }
}
