//! `dalle data build`: sources of captioned images in, a dataset folder out.
//!
//! The same input and options give the same bytes, however many threads render. What is known of the images is held in
//! memory, about a kilobyte each, to put them in random order; their pixels are not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use dalle_data::{
    DataError, FORMAT, MANIFEST, Manifest, Options, Problem, Reason, Record, ShardWriter, SourceSummary,
    Split, check_apart, encode_png, sanitise_key,
};
use dalle_native::publish::NewFolder;
use dalle_shared::sha256_hex;
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::attribution;
use crate::background::{self, PALETTE, WHITE};
use crate::render::{Cutout, RenderError};
use crate::source::{LeftOut, RawExample, Source};

/// Images rendered before they are written: bounds memory, and keeps every thread busy.
const BATCH: usize = 256;

/// Sides of images that make sense.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// Builds the dataset folder `out` and returns its manifest.
///
/// # Errors
/// An option is out of range, a source cannot be read, two images have one key, nothing is left to store, or a file
/// cannot be written. `out` is then as it was.
pub fn build(
    sources: &[Box<dyn Source>],
    options: &Options,
    out: &Path,
    overwrite: bool,
    progress: &ProgressBar,
) -> Result<Manifest, DataError> {
    check(options)?;
    let inputs = sources.iter().flat_map(|source| source.inputs());
    check_apart(out, inputs.map(|input| (input.option, input.path, input.everything)))?;
    let folder = NewFolder::begin(out, MANIFEST, overwrite)?;
    let mut tally = Tally::new(sources);
    let images = in_order(sources, &mut tally, options.seed)?;
    let mut writer = Writer::new(ShardWriter::new(folder.path(), options.shard_size));
    progress.set_length(images.len() as u64);
    for batch in images.chunks(BATCH) {
        let rendered: Vec<Result<Vec<Entry>, RenderError>> =
            batch.par_iter().map(|image| render(image, &tally, options)).collect();
        for (image, rendered) in batch.iter().zip(rendered) {
            writer.store(&mut tally, image, rendered)?;
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish();
    if writer.train + writer.val == 0 {
        return Err(DataError::Nothing { reasons: tally.reasons() });
    }
    tally.problems.sort();
    let manifest = Manifest {
        format: FORMAT,
        image_size: options.size,
        records: writer.train + writer.val,
        train: writer.train,
        val: writer.val,
        options: options.clone(),
        sources: tally.sources,
        tokens: None,
        shards: writer.shards.finish()?,
        problems: tally.problems,
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(DataError::json("a manifest", out))?;
    folder.write("ATTRIBUTION.md", attribution::render(&manifest).as_bytes())?;
    folder.write(MANIFEST, &json)?;
    folder.publish()?;
    Ok(manifest)
}

/// What became of the images of each source.
struct Tally {
    sources: Vec<SourceSummary>,
    problems: Vec<Problem>,
}

impl Tally {
    fn new(sources: &[Box<dyn Source>]) -> Self {
        let summary = |info| SourceSummary { info, stored: 0, left_out: BTreeMap::new() };
        let sources = sources.iter().map(|source| summary(source.info())).collect();
        Self { sources, problems: Vec::new() }
    }

    fn leave_out(&mut self, source: usize, LeftOut { reason, problem }: LeftOut) {
        *self.sources[source].left_out.entry(reason).or_default() += 1;
        self.problems.extend(problem.map(|(source, message)| Problem { reason, source, message }));
    }

    /// How many images were left out for which reason, with an example.
    fn reasons(&self) -> String {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for (reason, count) in self.sources.iter().flat_map(|source| &source.left_out) {
            *counts.entry(*reason).or_default() += count;
        }
        if counts.is_empty() {
            return "the input holds none".to_owned();
        }
        let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        let first = self.problems.iter().min();
        let example = first.map(|problem| format!("; for example {}: {}", problem.source, problem.message));
        counts.join(", ") + &example.unwrap_or_default()
    }
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
        return refuse("shard-size", "expected at least one image in a shard, got 0".to_owned());
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

/// An image with the index of its source and its key in the shards.
struct Keyed {
    source: usize,
    key: String,
    example: RawExample,
}

/// The images of all sources in an order that mixes them and depends on the seed and the keys alone.
fn in_order(sources: &[Box<dyn Source>], tally: &mut Tally, seed: u64) -> Result<Vec<Keyed>, DataError> {
    let mut origins: HashMap<String, String> = HashMap::new();
    let mut images = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        for example in source.examples()? {
            let example = match example {
                Ok(example) => example,
                Err(left_out) => {
                    tally.leave_out(index, left_out);
                    continue;
                }
            };
            let key = sanitise_key(&example.name);
            if let Some(first) = origins.insert(key.clone(), example.origin.clone()) {
                return Err(DataError::DuplicateKey { key, first, second: example.origin });
            }
            images.push(Keyed { source: index, key, example });
        }
    }
    images.sort_by_cached_key(|image| sha256_hex(format!("{seed} {}", image.key).as_bytes()));
    Ok(images)
}

/// One image, ready to be stored.
struct Entry {
    key: String,
    record: Record,
    png: Vec<u8>,
}

/// The drawing on white, and on as many coloured backgrounds as are wanted, of those that it stands out from. A photo has
/// its own.
fn render(image: &Keyed, tally: &Tally, options: &Options) -> Result<Vec<Entry>, RenderError> {
    let Keyed { source, key, example } = image;
    let cutout = Cutout::new(&example.art, options.size)?;
    let coloured = background::ranked(options.seed, key)
        .into_iter()
        .filter(|background| cutout.stands_out_from(background.colour))
        .take(options.backgrounds);
    let license = example.license.as_ref().unwrap_or(&tally.sources[*source].info.license);
    std::iter::once(WHITE)
        .chain(coloured)
        .map(|background| {
            let mut key = key.clone();
            let mut captions = example.captions.clone();
            if background != WHITE {
                key = format!("{key}_on_{}", background.name.replace(' ', "-"));
                captions = captions.on_background(background.name);
            }
            let record = Record {
                captions,
                split: Split::of(&example.concept, options.val_share),
                concept: example.concept.clone(),
                license: license.clone(),
                source: example.origin.clone(),
                extra: example.extra.clone(),
            };
            Ok(Entry { key, record, png: encode_png(&cutout.on(background.colour))? })
        })
        .collect()
}

/// Stores what was rendered and keeps count.
struct Writer {
    shards: ShardWriter,
    /// Source, label and pixels of what is stored.
    seen: HashSet<(usize, String, String)>,
    train: usize,
    val: usize,
}

impl Writer {
    fn new(shards: ShardWriter) -> Self {
        Self { shards, seen: HashSet::new(), train: 0, val: 0 }
    }

    fn store(
        &mut self,
        tally: &mut Tally,
        image: &Keyed,
        rendered: Result<Vec<Entry>, RenderError>,
    ) -> Result<(), DataError> {
        let Keyed { source, example, .. } = image;
        let entries = match rendered {
            Ok(entries) => entries,
            Err(error) => {
                let problem =
                    LeftOut::unusable(Reason::Unreadable, example.origin.clone(), error.to_string());
                tally.leave_out(*source, problem);
                return Ok(());
            }
        };
        let pixels = entries.first().map(|entry| sha256_hex(&entry.png)).unwrap_or_default();
        if !self.seen.insert((*source, example.captions.label.clone(), pixels)) {
            tally.leave_out(*source, LeftOut::unwanted(Reason::Duplicate));
            return Ok(());
        }
        tally.sources[*source].stored += 1;
        for Entry { key, record, png } in entries {
            let json = serde_json::to_vec(&record).map_err(DataError::json("a record", Path::new(&key)))?;
            let text = record.captions.main();
            self.shards.append(
                &key,
                record.split,
                &[("png", &png), ("json", &json), ("txt", text.as_bytes())],
            )?;
            match record.split {
                Split::Train => self.train += 1,
                Split::Val => self.val += 1,
            }
        }
        Ok(())
    }
}
