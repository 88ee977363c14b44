//! Writes PNG files.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use dalle_native::publish::write_file;
use image::{ImageFormat, RgbImage};

/// Writes a PNG atomically, replacing an older file.
///
/// # Errors
/// It cannot be written. An older file is then unchanged.
pub fn write_png(path: &Path, image: &RgbImage) -> Result<()> {
    let mut bytes = Vec::new();
    let encoded = image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png);
    encoded.with_context(|| format!("encoding {}", path.display()))?;
    Ok(write_file(path, &bytes)?)
}
