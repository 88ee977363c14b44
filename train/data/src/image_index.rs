//! The images of a dataset by key, about a hundred bytes of memory each.

use std::collections::HashMap;
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::error::DataError;
use crate::location::Location;
use crate::shards::Shards;

/// Where each image is.
#[derive(Debug)]
pub struct ImageIndex {
    by_key: HashMap<String, Location>,
}

impl ImageIndex {
    /// Reads all shards once.
    ///
    /// # Errors
    /// A shard cannot be read or is damaged, or holds tokens.
    pub fn open(shards: &Shards) -> Result<Self, DataError> {
        if shards.manifest().tokens.is_some() {
            return Err(DataError::TokensNotImages(shards.folder().to_owned()));
        }
        let image_size = shards.manifest().image_size;
        let read = |index| -> Result<Vec<(String, Location)>, DataError> {
            let path = Arc::new(shards.path(index));
            let located = shards
                .read(index)?
                .entries(None)
                .map(|entry| Ok((entry.key().to_owned(), Location::of(&entry, &path, image_size)?)));
            located.collect()
        };
        let located: Vec<_> = (0..shards.len()).into_par_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { by_key: located.into_iter().flatten().collect() })
    }

    /// The image called `key`; none if there is no such image.
    ///
    /// # Errors
    /// The shard cannot be read or was changed since it was opened.
    pub fn image(&self, key: &str) -> Result<Option<RgbImage>, DataError> {
        self.by_key.get(key).map(|location| location.image(key)).transpose()
    }
}
