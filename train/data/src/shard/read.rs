//! Reading shards: a whole shard in memory, its records found by offset, its images not yet decoded.

use std::fs::File;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalle_shared::{ImageToken, sha256_hex};
use image::{ImageFormat, ImageReader, RgbImage};
use serde::Deserialize;

use super::ShardInfo;
use crate::error::DataError;
use crate::manifest::Manifest;
use crate::record::{Record, Split};
use crate::tokens::{self, TokenFormat};

/// One shard in memory.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    image_size: u32,
    tokens: Option<TokenFormat>,
}

/// Where the files of one record lie in the shard.
#[derive(Debug)]
struct Slot {
    key: String,
    split: Split,
    json: Range<usize>,
    /// The image or its tokens.
    content: Range<usize>,
}

impl Shard {
    /// Reads a shard of the dataset in `folder` and checks its size, its SHA-256 and the files of every record.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read(folder: &Path, manifest: &Manifest, info: &ShardInfo) -> Result<Self, DataError> {
        let path = folder.join(&info.name);
        let bytes = read_whole(&path, info)?;
        let ending = if manifest.tokens.is_some() { tokens::ENDING } else { "png" };
        let slots = slots(&bytes, ending, &path)?;
        if slots.len() != info.records {
            let message = format!("expected {} records, got {}", info.records, slots.len());
            return Err(DataError::damaged(&path, message));
        }
        let train = slots.iter().filter(|slot| slot.split == Split::Train).count();
        if info.train.is_some_and(|expected| expected != train) {
            return Err(DataError::damaged(
                &path,
                format!("the manifest miscounts its {train} training records"),
            ));
        }
        Ok(Self { path, bytes, slots, image_size: manifest.image_size, tokens: manifest.tokens.clone() })
    }

    /// The records of a split, or of both, in the order of the file.
    pub fn entries(self: &Arc<Self>, split: Option<Split>) -> impl Iterator<Item = Entry> + use<> {
        let shard = Arc::clone(self);
        (0..shard.slots.len())
            .map(move |slot| Entry { shard: Arc::clone(&shard), slot })
            .filter(move |entry| split.is_none_or(|split| entry.split() == split))
    }
}

/// One record of a shard in memory. Keeps the shard alive; cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry {
    shard: Arc<Shard>,
    slot: usize,
}

impl Entry {
    fn slot(&self) -> &Slot {
        &self.shard.slots[self.slot]
    }

    /// Its name, unique in the dataset.
    pub fn key(&self) -> &str {
        &self.slot().key
    }

    /// The split it belongs to.
    pub fn split(&self) -> Split {
        self.slot().split
    }

    /// Captions, concept and origin.
    ///
    /// # Errors
    /// Its JSON is no record.
    pub fn record(&self) -> Result<Record, DataError> {
        serde_json::from_slice(&self.shard.bytes[self.slot().json.clone()])
            .map_err(|error| self.damaged(&format!("`{}.json` is no record: {error}", self.key())))
    }

    /// Its image, `image_size` pixels wide and high.
    ///
    /// # Errors
    /// The dataset holds tokens, or this is no PNG of that size.
    pub fn image(&self) -> Result<RgbImage, DataError> {
        if self.shard.tokens.is_some() {
            return Err(DataError::TokensNotImages(self.shard.path.clone()));
        }
        decode_png(self.content(), self.shard.image_size)
            .map_err(|message| self.damaged(&format!("`{}.png` {message}", self.key())))
    }

    /// The tokens of one of its crops, `[grid²]` in raster order. `crop` counts on after the last one from the first again.
    ///
    /// # Errors
    /// The dataset holds images, or the file is of another length.
    pub fn tokens(&self, crop: u64) -> Result<Vec<ImageToken>, DataError> {
        let Some(format) = &self.shard.tokens else {
            return Err(DataError::ImagesNotTokens(self.shard.path.clone()));
        };
        format
            .crop(self.content(), crop)
            .map_err(|message| self.damaged(&format!("`{}.tokens` {message}", self.key())))
    }

    /// The bytes of its image or tokens.
    pub(crate) fn content(&self) -> &[u8] {
        &self.shard.bytes[self.slot().content.clone()]
    }

    /// Where they lie in the shard's file.
    pub(crate) fn location(&self) -> Range<usize> {
        self.slot().content.clone()
    }

    fn damaged(&self, message: &str) -> DataError {
        DataError::damaged(&self.shard.path, message)
    }
}

/// Decodes a PNG of `size` by `size` pixels; the message continues "`cat.png` …".
pub(crate) fn decode_png(bytes: &[u8], size: u32) -> Result<RgbImage, String> {
    check_png(bytes, size)?;
    let image = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png).decode();
    Ok(image.map_err(|error| format!("is no image: {error}"))?.into_rgb8())
}

/// Checks the size in a PNG's header.
pub(crate) fn check_png(bytes: &[u8], size: u32) -> Result<(), String> {
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png)
        .into_dimensions()
        .map_err(|error| format!("is no image: {error}"))?;
    if (width, height) != (size, size) {
        return Err(format!("is {width}×{height}, expected {size}×{size}"));
    }
    Ok(())
}

fn read_whole(path: &Path, info: &ShardInfo) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    // One byte more than expected shows a file that is too long without reading all of it.
    File::open(path)
        .and_then(|file| file.take(info.bytes.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(DataError::io("reading", path))?;
    let read = bytes.len() as u64;
    if read != info.bytes {
        let got = if read > info.bytes { "more".to_owned() } else { read.to_string() };
        return Err(DataError::damaged(path, format!("expected {} bytes, got {got}", info.bytes)));
    }
    let sha256 = sha256_hex(&bytes);
    if sha256 != info.sha256 {
        return Err(DataError::damaged(path, format!("expected SHA-256 {}, got {sha256}", info.sha256)));
    }
    Ok(bytes)
}

/// The files of one record: its key, the ranges of its `.json` and of its content.
type Files = (String, Option<Range<usize>>, Option<Range<usize>>);

/// The records of a shard in the order of the file; `ending` is that of the images or tokens.
fn slots(bytes: &[u8], ending: &str, path: &Path) -> Result<Vec<Slot>, DataError> {
    let mut records: Vec<Files> = Vec::new();
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().map_err(DataError::io("reading", path))?;
    for entry in entries {
        let entry = entry.map_err(DataError::io("reading", path))?;
        let name = entry.path().map_err(DataError::io("reading", path))?.to_string_lossy().into_owned();
        let (key, file) = name.split_once('.').unwrap_or((&name, ""));
        let start = entry.raw_file_position() as usize;
        let range = start..start.saturating_add(entry.size() as usize);
        if bytes.get(range.clone()).is_none() {
            return Err(DataError::damaged(path, format!("`{name}` is cut short")));
        }
        if records.last().is_none_or(|(last, ..)| last != key) {
            records.push((key.to_owned(), None, None));
        }
        if let Some((_, json, content)) = records.last_mut() {
            match file {
                "json" => *json = Some(range),
                _ if file == ending => *content = Some(range),
                _ => {}
            }
        }
    }
    records.into_iter().map(|files| slot(files, bytes, ending, path)).collect()
}

fn slot((key, json, content): Files, bytes: &[u8], ending: &str, path: &Path) -> Result<Slot, DataError> {
    /// The part of a record that says which split it belongs to.
    #[derive(Deserialize)]
    struct Side {
        split: Split,
    }
    let missing = |ending: &str| DataError::damaged(path, format!("`{key}` has no .{ending} file"));
    let json = json.ok_or_else(|| missing("json"))?;
    let content = content.ok_or_else(|| missing(ending))?;
    let Side { split } = serde_json::from_slice(&bytes[json.clone()])
        .map_err(|error| DataError::damaged(path, format!("`{key}.json` is no record: {error}")))?;
    Ok(Slot { key, split, json, content })
}
