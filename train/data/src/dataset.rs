//! A dataset with random access: captions in memory, images read when they are asked for. For evaluation; training streams
//! ([`TrainingData`](crate::TrainingData)).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::captions::Captions;
use crate::error::DataError;
use crate::location::Location;
use crate::manifest::Manifest;
use crate::record::{HeldOut, Record, Split, Subset};
use crate::shard::Entry;
use crate::shards::Shards;

/// An example, without its pixels.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its name, unique in the dataset.
    pub key: String,
    /// What to call it.
    pub captions: Captions,
    /// What it shows: all examples of one concept are in the same split.
    pub concept: String,
    /// The split it belongs to.
    pub split: Split,
    /// Why it is held out, if the dataset has several reasons.
    pub held_out: Option<HeldOut>,
    location: Location,
}

/// A dataset of images.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the folder says of itself.
    pub manifest: Manifest,
    /// Its examples, in the order of the shards.
    pub examples: Vec<Example>,
    by_key: HashMap<String, usize>,
    hash: String,
}

impl Dataset {
    /// Reads a folder that `dalle data build` wrote, checking size and SHA-256 of every shard and the header of every image.
    ///
    /// # Errors
    /// The folder is no dataset, of another format, damaged, or holds tokens.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let shards = Shards::open(folder)?;
        if shards.manifest().tokens.is_some() {
            return Err(DataError::TokensNotImages(folder.to_owned()));
        }
        let examples = (0..shards.len()).into_par_iter().map(|index| read_examples(&shards, index));
        let examples: Vec<Vec<Example>> = examples.collect::<Result<_, _>>()?;
        let examples: Vec<Example> = examples.into_iter().flatten().collect();
        let by_key = examples.iter().map(|example| example.key.clone()).zip(0..).collect();
        let hash = shards.hash();
        Ok(Self { manifest: shards.into_manifest(), examples, by_key, hash })
    }

    /// Identity of the content: SHA-256 over those of the shards.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// The example called `key`.
    pub fn get(&self, key: &str) -> Option<&Example> {
        self.by_key.get(key).map(|&index| &self.examples[index])
    }

    /// The examples of one split.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |example| example.split == split)
    }

    /// The examples of a subset.
    pub fn subset(&self, subset: Subset) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |example| subset.contains(example.split, example.held_out))
    }
}

impl Example {
    /// Reads and decodes its image, `image_size` pixels wide and high.
    ///
    /// # Errors
    /// The shard cannot be read or was changed since it was opened.
    pub fn image(&self) -> Result<RgbImage, DataError> {
        self.location.image(&self.key)
    }
}

fn read_examples(shards: &Shards, index: usize) -> Result<Vec<Example>, DataError> {
    let path = Arc::new(shards.path(index));
    let image_size = shards.manifest().image_size;
    let example = |entry: Entry| {
        let location = Location::of(&entry, &path, image_size)?;
        let Record { captions, concept, split, held_out, .. } = entry.record()?;
        Ok(Example { key: entry.key().to_owned(), captions, concept, split, held_out, location })
    };
    shards.read(index)?.entries(None).map(example).collect()
}
