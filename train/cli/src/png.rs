//! Writes PNG files.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_native::publish::write_file;
use dalle_shared::{ImageMetadata, write_metadata};
use image::{ImageFormat, RgbImage};

/// Writes a PNG atomically, replacing an older file.
///
/// # Errors
/// It cannot be written. An older file is then unchanged.
pub fn write_png(path: &Path, image: &RgbImage) -> Result<()> {
    Ok(write_file(path, &encode(path, image)?)?)
}

/// [`write_png`] with metadata that says how the image was generated.
///
/// # Errors
/// As [`write_png`].
pub fn write_png_with(path: &Path, image: &RgbImage, metadata: &ImageMetadata) -> Result<()> {
    Ok(write_file(path, &write_metadata(&encode(path, image)?, metadata)?)?)
}

fn encode(path: &Path, image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoded = image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png);
    encoded.with_context(|| format!("encoding {}", path.display()))?;
    Ok(bytes)
}
