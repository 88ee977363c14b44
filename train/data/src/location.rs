//! Where an image is on disk, for reading single images.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use crate::error::DataError;
use crate::shard::{Entry, check_png, decode_png};

/// The bytes of a PNG in a shard.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    shard: Arc<PathBuf>,
    start: u64,
    length: usize,
    image_size: u32,
}

impl Location {
    /// Where an entry's image is. Checks the header of the image.
    ///
    /// # Errors
    /// It is no PNG of `image_size` pixels.
    pub fn of(entry: &Entry, shard: &Arc<PathBuf>, image_size: u32) -> Result<Self, DataError> {
        check_png(entry.content(), image_size)
            .map_err(|message| DataError::damaged(shard, format!("`{}.png` {message}", entry.key())))?;
        let location = entry.location();
        let (start, length) = (location.start as u64, location.len());
        Ok(Self { shard: Arc::clone(shard), start, length, image_size })
    }

    /// Reads and decodes the image; `key` names it in errors.
    ///
    /// # Errors
    /// The shard cannot be read or was changed.
    pub fn image(&self, key: &str) -> Result<RgbImage, DataError> {
        let mut bytes = vec![0; self.length];
        let mut read = || {
            let mut file = File::open(&*self.shard)?;
            file.seek(SeekFrom::Start(self.start))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(DataError::io("reading", &self.shard))?;
        decode_png(&bytes, self.image_size)
            .map_err(|message| DataError::damaged(&self.shard, format!("`{key}.png` {message}")))
    }
}
