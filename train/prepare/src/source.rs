//! The interface of sources of captioned images.
//!
//! A [`Source`] lists captioned images one after the other without decoding them; the builder renders, sorts and stores
//! them. To read another kind of data, implement this trait: the builder need not change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dalle_data::{Captions, DataError, Problem, Reason, SourceInfo, concept_of};
use serde_json::Value;

use crate::render::Art;

/// Captioned images of one origin and licence.
pub trait Source {
    /// The source's entry in the manifest.
    fn info(&self) -> SourceInfo;

    /// The files and folders that it reads, so that no output is written there.
    fn inputs(&self) -> Vec<Input>;

    /// Its images in any order, and those that are left out.
    ///
    /// # Errors
    /// The source itself cannot be read. An image that cannot be used is an item instead.
    fn examples(&self) -> Result<Box<dyn Iterator<Item = Result<RawExample, LeftOut>> + '_>, DataError>;
}

/// A file or folder that a source reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// The command-line option that names it.
    pub option: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Whether every file in it and its subfolders is read as an image.
    pub everything: bool,
}

/// An image before it is rendered, with its captions and metadata.
pub struct RawExample {
    /// Name, unique in the dataset; becomes the key in the shards.
    pub name: String,
    /// The source of its pixels.
    pub art: Art,
    /// Its captions on a white background.
    pub captions: Captions,
    /// The key by which images are held out together: [`concept_of`] its label, unless the source has a more exact one.
    pub concept: String,
    /// SPDX licence, if it differs from that of its source.
    pub license: Option<String>,
    /// Package, version and name, or path within a folder, for messages and the record.
    pub origin: String,
    /// Other metadata of the source, which is stored as it is.
    pub extra: BTreeMap<String, Value>,
}

impl RawExample {
    /// An image with captions and no other metadata.
    pub fn new(name: String, origin: String, art: Art, captions: Captions) -> Self {
        let concept = concept_of(&captions.label);
        Self { name, art, captions, concept, license: None, origin, extra: BTreeMap::new() }
    }
}

/// What is not stored.
#[derive(Clone, Debug)]
pub enum LeftOut {
    /// An image that was not selected. It is only counted.
    Unwanted(Reason),
    /// An image that was selected but cannot be used.
    Unusable(Problem),
    /// A file that is no image, by its ending. It is only counted.
    OtherFile(String),
}

impl LeftOut {
    /// An image that was not selected.
    pub fn unwanted(reason: Reason) -> Self {
        Self::Unwanted(reason)
    }

    /// An image that was selected but cannot be used: its origin, and the fault.
    pub fn unusable(reason: Reason, origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unusable(Problem { reason, source: origin.into(), message: message.into() })
    }
}
