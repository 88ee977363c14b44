//! A dataset folder in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use dalle_shared::sha256_hex;
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;

use super::error::{DataError, read_json};
use super::manifest::{FORMAT, MANIFEST, Manifest};
use super::record::{Captions, Record, Split};
use super::shard::ShardInfo;

/// One picture with its captions.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its name, unique in the dataset.
    pub key: String,
    /// What to call it.
    pub captions: Captions,
    /// What it shows: pictures of one concept are all trained on or all held out.
    pub concept: String,
    /// Its pixels, `image_size` wide and high.
    pub image: RgbImage,
    /// Trained on or held out.
    pub split: Split,
}

/// A whole dataset. They are small: 8,000 pictures of 128×128 pixels are 400 MB.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the folder says of itself.
    pub manifest: Manifest,
    /// Its pictures, in the order of the shards.
    pub examples: Vec<Example>,
}

impl Dataset {
    /// Reads a folder that `dalle data build` wrote, checking size and SHA-256 of every shard.
    ///
    /// # Errors
    /// The folder is no dataset, of another format, or damaged.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MANIFEST);
        let manifest: Manifest =
            read_json(&path, "the manifest of a dataset (`dalle data build` makes one)")?;
        if manifest.format != FORMAT {
            return Err(DataError::malformed(
                &path,
                format!("expected format {FORMAT}, got {}", manifest.format),
            ));
        }
        let shards: Vec<Vec<Example>> = manifest
            .shards
            .par_iter()
            .map(|shard| read_shard(&folder.join(&shard.name), shard, manifest.image_size))
            .collect::<Result<_, _>>()?;
        let examples: Vec<Example> = shards.into_iter().flatten().collect();
        Ok(Self { manifest, examples })
    }

    /// Identity of the content: SHA-256 over those of the shards.
    pub fn hash(&self) -> String {
        let hashes: String = self.manifest.shards.iter().map(|shard| shard.sha256.as_str()).collect();
        sha256_hex(hashes.as_bytes())
    }

    /// The examples of one split.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |example| example.split == split)
    }
}

fn read_shard(path: &Path, info: &ShardInfo, image_size: u32) -> Result<Vec<Example>, DataError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| BufReader::new(file).read_to_end(&mut bytes))
        .map_err(DataError::io("reading", path))?;
    if bytes.len() as u64 != info.bytes {
        return Err(DataError::damaged(path, format!("expected {} bytes, got {}", info.bytes, bytes.len())));
    }
    let sha256 = sha256_hex(&bytes);
    if sha256 != info.sha256 {
        return Err(DataError::damaged(path, format!("expected SHA-256 {}, got {sha256}", info.sha256)));
    }
    let parts = parts(&bytes).map_err(DataError::io("reading", path))?;
    let examples: Vec<Example> = parts
        .into_iter()
        .map(|(key, files)| {
            example(key, &files, image_size).map_err(|message| DataError::damaged(path, message))
        })
        .collect::<Result<_, _>>()?;
    if examples.len() != info.records {
        return Err(DataError::damaged(
            path,
            format!("expected {} pictures, got {}", info.records, examples.len()),
        ));
    }
    Ok(examples)
}

type Files<'a> = HashMap<String, &'a [u8]>;

/// The files of a shard, grouped by key in the order of the keys' first appearance.
fn parts(bytes: &[u8]) -> std::io::Result<Vec<(String, Files<'_>)>> {
    let mut parts: Vec<(String, Files)> = Vec::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let (key, ending) = name.split_once('.').unwrap_or((&name, ""));
        let start = entry.raw_file_position() as usize;
        let content = bytes.get(start..).and_then(|rest| rest.get(..entry.size() as usize));
        let content = content.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if parts.last().is_none_or(|(last, _)| last != key) {
            parts.push((key.to_owned(), HashMap::new()));
        }
        if let Some((_, files)) = parts.last_mut() {
            files.insert(ending.to_owned(), content);
        }
    }
    Ok(parts)
}

fn example(key: String, files: &Files, image_size: u32) -> Result<Example, String> {
    let file = |ending: &str| files.get(ending).ok_or_else(|| format!("`{key}` has no .{ending} file"));
    let record: Record = serde_json::from_slice(file("json")?)
        .map_err(|error| format!("`{key}.json` is no record: {error}"))?;
    let image = image::load_from_memory_with_format(file("png")?, ImageFormat::Png)
        .map_err(|error| format!("`{key}.png` is no picture: {error}"))?
        .to_rgb8();
    if image.dimensions() != (image_size, image_size) {
        let (width, height) = image.dimensions();
        return Err(format!("`{key}.png` is {width}×{height}, expected {image_size}×{image_size}"));
    }
    let Record { captions, concept, split, .. } = record;
    Ok(Example { key, captions, concept, image, split })
}
