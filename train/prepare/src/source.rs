//! Where the images of a dataset come from.
//!
//! A [`Source`] lists captioned images one after the other without decoding them; the builder renders, sorts and stores
//! them. To read another kind of data, implement this trait: the builder need not change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dalle_data::{Captions, DataError, Reason, SourceInfo, concept_of};
use serde_json::Value;

use crate::render::Art;

/// Captioned images of one origin and licence.
pub trait Source {
    /// What the manifest says of it.
    fn info(&self) -> SourceInfo;

    /// What it reads, so that nothing is written there.
    fn inputs(&self) -> Vec<Input>;

    /// Its images in any order, and those that are left out.
    ///
    /// # Errors
    /// The source itself cannot be read. A fault of one image is an item.
    fn examples(&self) -> Result<Box<dyn Iterator<Item = Result<RawExample, LeftOut>> + '_>, DataError>;
}

/// A file or folder that a source reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// The option that names it.
    pub option: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Whether every file below it is taken for an image.
    pub everything: bool,
}

/// An image before it is rendered, with all that is known of it.
pub struct RawExample {
    /// Name, unique in the dataset; becomes the key in the shards.
    pub name: String,
    /// Where its pixels come from.
    pub art: Art,
    /// Its captions on a white background.
    pub captions: Captions,
    /// What is held out together: [`concept_of`] its label, unless the source knows better.
    pub concept: String,
    /// SPDX licence, if it is not that of its source.
    pub license: Option<String>,
    /// Package, version and name, or path within a folder, for messages and the record.
    pub origin: String,
    /// What else the source knows of it: stored, not interpreted.
    pub extra: BTreeMap<String, Value>,
}

impl RawExample {
    /// An image of which no more is known than its captions.
    pub fn new(name: String, origin: String, art: Art, captions: Captions) -> Self {
        let concept = concept_of(&captions.label);
        Self { name, art, captions, concept, license: None, origin, extra: BTreeMap::new() }
    }
}

/// An image that is not used.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Why.
    pub reason: Reason,
    /// What is wrong with which image, if it was wanted. Those that were not are only counted.
    pub problem: Option<(String, String)>,
}

impl LeftOut {
    /// An image that was not asked for.
    pub fn unwanted(reason: Reason) -> Self {
        Self { reason, problem: None }
    }

    /// An image that cannot be used: what is wrong with which one.
    pub fn unusable(reason: Reason, origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, problem: Some((origin.into(), message.into())) }
    }
}
