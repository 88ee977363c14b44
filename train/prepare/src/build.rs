//! `dalle data build`: drawings in, a dataset folder out.
//!
//! The same input and options give the same bytes, however many threads render.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use dalle_shared::sha256_hex;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use indicatif::ProgressBar;
use rayon::prelude::*;

use dalle_data::{
    DataError, FORMAT, MANIFEST, Manifest, Options, Problem, Reason, Record, ShardWriter, Split,
};

use dalle_native::publish::NewFolder;

use super::attribution;
use super::background::{self, PALETTE, WHITE};
use super::emoji::{self, Selection};
use super::family::Family;
use super::folder;
use super::render::{Cutout, RenderError};
use super::source::{Drawing, Source};

/// Where the pictures are.
pub enum Input {
    /// Unpacked npm packages of emoji families.
    Packages {
        /// The folder they lie under.
        root: PathBuf,
        /// The families wanted.
        families: Vec<&'static Family>,
    },
    /// A folder of pictures with captions.
    Images {
        /// The folder.
        root: PathBuf,
        /// SPDX licence of the pictures.
        license: String,
    },
}

/// Pictures rendered before they are written: bounds memory, and keeps every thread busy.
const BATCH: usize = 256;

/// Sides of pictures that make sense.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// Builds the dataset folder `out` and returns its manifest.
///
/// # Errors
/// An option out of range, input that is missing or malformed, two pictures of one key, nothing left to store, or a
/// file that cannot be written. `out` is then as it was.
pub fn build(
    input: &Input,
    options: &Options,
    out: &Path,
    overwrite: bool,
    progress: &ProgressBar,
) -> Result<Manifest, DataError> {
    check(options)?;
    check_apart(input, out)?;
    let folder = NewFolder::begin(out, MANIFEST, overwrite)?;
    let (mut sources, captions) = match input {
        Input::Packages { root, families } => {
            let selection = Selection {
                families,
                groups: options.groups.as_deref(),
                skin_tones: options.skin_tones,
                val_share: options.val_share,
            };
            let (sources, captions) = emoji::read(root, &selection)?;
            (sources, Some(captions))
        }
        Input::Images { root, license } => (vec![folder::read(root, license, options.val_share)?], None),
    };
    let drawings = in_order(&mut sources, options.seed)?;
    let mut writer = Writer::new(ShardWriter::new(folder.path(), options.shard_size));
    progress.set_length(drawings.len() as u64);
    for batch in drawings.chunks(BATCH) {
        let rendered: Vec<Result<Vec<Entry>, RenderError>> =
            batch.par_iter().map(|(_, drawing)| render(drawing, options)).collect();
        for ((source, drawing), rendered) in batch.iter().zip(rendered) {
            writer.store(&mut sources[*source], drawing, rendered)?;
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish();
    if writer.train + writer.val == 0 {
        return Err(DataError::Nothing { reasons: reasons(&sources) });
    }
    let mut problems: Vec<Problem> =
        sources.iter_mut().flat_map(|s| std::mem::take(&mut s.problems)).collect();
    problems.sort();
    let manifest = Manifest {
        format: FORMAT,
        image_size: options.size,
        records: writer.train + writer.val,
        train: writer.train,
        val: writer.val,
        options: options.clone(),
        captions,
        sources: sources.into_iter().map(|source| source.summary).collect(),
        shards: writer.shards.finish()?,
        problems,
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(DataError::json("a manifest", out))?;
    folder.write("ATTRIBUTION.md", attribution::render(&manifest).as_bytes())?;
    folder.write(MANIFEST, &json)?;
    folder.publish()?;
    Ok(manifest)
}

/// Refuses to replace what is to be read, or to write where pictures are looked for: they would be found the next time.
fn check_apart(input: &Input, out: &Path) -> Result<(), DataError> {
    let (option, root, looks_everywhere) = match input {
        Input::Packages { root, .. } => ("packages", root, false),
        Input::Images { root, .. } => ("images", root, true),
    };
    let (read, written) = (resolved(root)?, resolved(out)?);
    let refuse = |how: &str| {
        let (out, root) = (out.display(), root.display());
        let message =
            format!("expected a folder apart from --{option}, but {out} {how} {root}; choose another");
        Err(DataError::Option { option: "out", message })
    };
    match (written.starts_with(&read), read.starts_with(&written)) {
        (true, true) => refuse("is"),
        (true, _) if looks_everywhere => refuse("lies inside"),
        (_, true) => refuse("holds"),
        _ => Ok(()),
    }
}

/// Where a path leads to, links followed as far as it exists.
fn resolved(path: &Path) -> Result<PathBuf, DataError> {
    let resolve = || {
        let path = std::path::absolute(path)?;
        let there = path.ancestors().find(|part| part.exists()).unwrap_or(&path);
        Ok(there.canonicalize()?.join(path.strip_prefix(there).unwrap_or(Path::new(""))))
    };
    resolve().map_err(DataError::io("resolving", path))
}

fn check(options: &Options) -> Result<(), DataError> {
    let refuse = |option, message| Err(DataError::Option { option, message });
    if !SIZES.contains(&options.size) {
        return refuse(
            "size",
            format!("expected {} to {} pixels, got {}", SIZES.start(), SIZES.end(), options.size),
        );
    }
    if options.shard_size == 0 {
        return refuse("shard-size", "expected at least one picture in a shard, got 0".to_owned());
    }
    if options.backgrounds > PALETTE.len() {
        return refuse(
            "backgrounds",
            format!("expected at most {} colours, got {}", PALETTE.len(), options.backgrounds),
        );
    }
    if !(0.0..1.0).contains(&options.val_share) {
        return refuse("val", format!("expected a share from 0 to below 1, got {}", options.val_share));
    }
    Ok(())
}

/// All drawings with the index of their source, in an order that mixes families and depends on the seed and keys only.
fn in_order(sources: &mut [Source], seed: u64) -> Result<Vec<(usize, Drawing)>, DataError> {
    let mut keys: HashMap<String, String> = HashMap::new();
    let mut drawings = Vec::new();
    for (index, source) in sources.iter_mut().enumerate() {
        for drawing in source.drawings.drain(..) {
            if let Some(first) = keys.insert(drawing.key.clone(), drawing.source.clone()) {
                return Err(DataError::DuplicateKey { key: drawing.key, first, second: drawing.source });
            }
            drawings.push((index, drawing));
        }
    }
    drawings.sort_by_cached_key(|(_, drawing)| sha256_hex(format!("{seed} {}", drawing.key).as_bytes()));
    Ok(drawings)
}

/// One picture, ready to be stored.
struct Entry {
    key: String,
    record: Record,
    png: Vec<u8>,
}

/// The drawing on white, and on as many coloured backgrounds as are wanted, of those that it stands out from. A photo has
/// its own.
fn render(drawing: &Drawing, options: &Options) -> Result<Vec<Entry>, RenderError> {
    let cutout = Cutout::new(&drawing.art, options.size)?;
    let coloured = background::ranked(options.seed, &drawing.key)
        .into_iter()
        .filter(|background| cutout.stands_out_from(background.colour))
        .take(options.backgrounds);
    std::iter::once(WHITE)
        .chain(coloured)
        .map(|background| {
            let mut key = drawing.key.clone();
            let mut captions = drawing.captions.clone();
            if background != WHITE {
                key = format!("{key}_on_{}", background.name.replace(' ', "-"));
                captions = captions.on_background(background.name);
            }
            let record = Record {
                captions,
                concept: drawing.concept.clone(),
                hexcode: drawing.hexcode.clone(),
                split: drawing.split,
                license: drawing.license.clone(),
                source: drawing.source.clone(),
            };
            Ok(Entry { key, record, png: png(&cutout.on(background.colour))? })
        })
        .collect()
}

fn png(picture: &RgbImage) -> Result<Vec<u8>, RenderError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive).write_image(
        picture,
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

/// Stores what was rendered and keeps count.
struct Writer {
    shards: ShardWriter,
    /// Family, label and pixels of what is stored.
    seen: HashSet<(String, String, String)>,
    train: usize,
    val: usize,
}

impl Writer {
    fn new(shards: ShardWriter) -> Self {
        Self { shards, seen: HashSet::new(), train: 0, val: 0 }
    }

    fn store(
        &mut self,
        source: &mut Source,
        drawing: &Drawing,
        rendered: Result<Vec<Entry>, RenderError>,
    ) -> Result<(), DataError> {
        let entries = match rendered {
            Ok(entries) => entries,
            Err(error) => {
                source.fail(Reason::Unreadable, drawing.source.clone(), error.to_string());
                return Ok(());
            }
        };
        let pixels = entries.first().map(|entry| sha256_hex(&entry.png)).unwrap_or_default();
        let identity = (drawing.captions.family.clone(), drawing.captions.label.clone(), pixels);
        if !self.seen.insert(identity) {
            source.summary.leave_out(Reason::Duplicate);
            return Ok(());
        }
        source.summary.stored += 1;
        for Entry { key, record, png } in entries {
            let json = serde_json::to_vec(&record).map_err(DataError::json("a record", Path::new(&key)))?;
            let text = record.captions.main();
            self.shards.append(&key, &[("png", &png), ("json", &json), ("txt", text.as_bytes())])?;
            match record.split {
                Split::Train => self.train += 1,
                Split::Val => self.val += 1,
            }
        }
        Ok(())
    }
}

fn reasons(sources: &[Source]) -> String {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for (reason, count) in sources.iter().flat_map(|source| &source.summary.left_out) {
        *counts.entry(*reason).or_default() += count;
    }
    if counts.is_empty() {
        return "the input holds none".to_owned();
    }
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
    counts.join(", ")
}
