//! A dataset folder, opened without reading its shards: what training and conversions stream from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalle_shared::sha256_hex;
use rayon::prelude::*;

use crate::error::{DataError, read_json};
use crate::manifest::{FORMAT, MANIFEST, Manifest};
use crate::order::ShardSize;
use crate::record::Split;
use crate::shard::{Entry, Shard};

/// The shards of a dataset folder.
#[derive(Clone, Debug)]
pub struct Shards {
    folder: PathBuf,
    manifest: Manifest,
}

impl Shards {
    /// Reads the manifest of a dataset folder.
    ///
    /// # Errors
    /// The folder is no dataset, or of another format.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Err(DataError::NotADataset(folder.to_owned()));
        }
        let manifest: Manifest =
            read_json(&path, "the manifest of a dataset (`dalle data build` writes one)")?;
        if manifest.format != FORMAT {
            let message = format!("expected format {FORMAT}, got {}", manifest.format);
            return Err(DataError::malformed(&path, message));
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Identity of the content: SHA-256 over those of the shards.
    pub fn hash(&self) -> String {
        let hashes: String = self.manifest.shards.iter().map(|shard| shard.sha256.as_str()).collect();
        sha256_hex(hashes.as_bytes())
    }

    /// Shards of the dataset.
    pub fn len(&self) -> usize {
        self.manifest.shards.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.manifest.shards.is_empty()
    }

    /// The file of a shard.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        self.folder.join(&self.manifest.shards[index].name)
    }

    /// Reads one shard.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    ///
    /// # Panics
    /// If there are not so many shards.
    pub fn read(&self, index: usize) -> Result<Arc<Shard>, DataError> {
        Shard::read(&self.folder, &self.manifest, &self.manifest.shards[index]).map(Arc::new)
    }

    /// All records of a split, or of both, in the order of the shards. Holds one shard in memory.
    pub fn entries(&self, split: Option<Split>) -> impl Iterator<Item = Result<Entry, DataError>> {
        (0..self.len()).flat_map(move |index| {
            let (entries, error) = match self.read(index) {
                Ok(shard) => (Some(shard.entries(split).collect::<Vec<_>>()), None),
                Err(error) => (None, Some(Err(error))),
            };
            entries.into_iter().flatten().map(Ok).chain(error)
        })
    }

    /// Bytes of each shard and its records of a split. Datasets of older versions do not list these: their shards are read.
    ///
    /// # Errors
    /// A shard had to be read and cannot be.
    pub fn sizes(&self, split: Split) -> Result<Vec<ShardSize>, DataError> {
        let size = |(index, info): (usize, &crate::shard::ShardInfo)| {
            let train = match (info.train, self.manifest.val, self.manifest.train) {
                (Some(train), ..) => train,
                (None, 0, _) => info.records,
                (None, _, 0) => 0,
                (None, ..) => self.read(index)?.entries(Some(Split::Train)).count(),
            };
            let examples = match split {
                Split::Train => train,
                Split::Val => info.records.saturating_sub(train),
            };
            Ok(ShardSize { examples, bytes: info.bytes })
        };
        self.manifest.shards.par_iter().enumerate().map(|(index, info)| size((index, info))).collect()
    }
}
