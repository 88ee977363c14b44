//! Storing what was rendered: in parallel, in order, each image once, with counts.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use dalle_data::{
    DataError, FORMAT, MANIFEST, Manifest, Options, Problem, Reason, Record, ShardWriter, SourceSummary,
    Split, Subset,
};
use dalle_native::publish::NewFolder;
use dalle_shared::sha256_hex;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::Value;

use crate::attribution;
use crate::render::RenderError;
use crate::source::{LeftOut, Source};

/// Images rendered before they are written: bounds memory, and keeps every thread busy.
const BATCH: usize = 256;

/// What became of the images of each source.
pub struct Tally {
    /// The sources, in the order of the manifest.
    pub sources: Vec<SourceSummary>,
    /// Images that were selected but cannot be used.
    pub problems: Vec<Problem>,
}

impl Tally {
    /// Nothing stored yet.
    pub fn new(sources: &[Box<dyn Source>]) -> Self {
        let summary = |info| SourceSummary { info, ..SourceSummary::default() };
        let sources = sources.iter().map(|source| summary(source.info())).collect();
        Self { sources, problems: Vec::new() }
    }

    /// Counts what is left out.
    pub fn leave_out(&mut self, source: usize, left_out: LeftOut) {
        let summary = &mut self.sources[source];
        let reason = match left_out {
            LeftOut::Unwanted(reason) => reason,
            LeftOut::Unusable(problem) => {
                let reason = problem.reason;
                self.problems.push(problem);
                reason
            }
            LeftOut::OtherFile(ending) => {
                *summary.other_files.entry(ending).or_default() += 1;
                Reason::NotAPicture
            }
        };
        *summary.left_out.entry(reason).or_default() += 1;
    }

    /// How many images were left out for which reason.
    pub fn reasons(&self) -> String {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for (reason, count) in self.sources.iter().flat_map(|source| &source.left_out) {
            *counts.entry(*reason).or_default() += count;
        }
        if counts.is_empty() {
            return "the input holds none".to_owned();
        }
        let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        counts.join(", ")
    }
}

/// One image, ready to be stored.
pub struct Entry {
    /// Its key in the shards.
    pub key: String,
    /// What is stored beside it.
    pub record: Record,
    /// Its pixels.
    pub png: Vec<u8>,
    /// The kind of image, for counts: `drawing`, `background`.
    pub kind: &'static str,
}

/// The images that one drawing or scene gave.
pub struct Rendered {
    /// Index of its source.
    pub source: usize,
    /// The drawing, for messages. None for what is made of several drawings, each of which is reported by itself.
    pub origin: Option<String>,
    /// The images, the plain one first.
    pub entries: Result<Vec<Entry>, RenderError>,
    /// Whether the drawing has fewer pixels than are stored.
    pub enlarged: bool,
}

/// Renders all `jobs` in parallel, stores the images in the order of the jobs and publishes the folder.
///
/// # Errors
/// Nothing is left to store, or a file cannot be written.
pub fn store_all<J: Sync>(
    folder: NewFolder,
    (options, recipe): (&Options, Option<Value>),
    mut tally: Tally,
    jobs: &[J],
    render: impl Fn(&J) -> Rendered + Sync,
    progress: &ProgressBar,
) -> Result<Manifest, DataError> {
    let mut writer = Writer::new(ShardWriter::new(folder.path(), options.shard_size));
    progress.set_length(jobs.len() as u64);
    for batch in jobs.chunks(BATCH) {
        let rendered: Vec<Rendered> = batch.par_iter().map(&render).collect();
        for rendered in rendered {
            writer.store(&mut tally, rendered)?;
        }
        progress.inc(batch.len() as u64);
    }
    progress.finish();
    tally.problems.sort();
    if writer.train + writer.val == 0 {
        return Err(DataError::Nothing { reasons: tally.reasons(), problems: tally.problems });
    }
    let manifest = Manifest {
        format: FORMAT,
        image_size: options.size,
        records: writer.train + writer.val,
        train: writer.train,
        val: writer.val,
        splits: writer.splits,
        options: options.clone(),
        recipe,
        sources: tally.sources,
        tokens: None,
        shards: writer.shards.finish()?,
        problems: tally.problems,
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(DataError::json("a manifest", folder.path()))?;
    folder.write("ATTRIBUTION.md", attribution::render(&manifest).as_bytes())?;
    folder.write(MANIFEST, &json)?;
    folder.publish()?;
    Ok(manifest)
}

/// Stores what was rendered and keeps count.
struct Writer {
    shards: ShardWriter,
    /// What is stored, and where it comes from, by source, label and pixels.
    seen: HashMap<(usize, String, String), String>,
    train: usize,
    val: usize,
    splits: BTreeMap<String, usize>,
}

impl Writer {
    fn new(shards: ShardWriter) -> Self {
        Self { shards, seen: HashMap::new(), train: 0, val: 0, splits: BTreeMap::new() }
    }

    fn store(&mut self, tally: &mut Tally, rendered: Rendered) -> Result<(), DataError> {
        let Rendered { source, origin, entries, enlarged } = rendered;
        let entries = match (entries, origin) {
            (Ok(entries), _) => entries,
            (Err(error), Some(origin)) => {
                tally.leave_out(source, LeftOut::unusable(Reason::Unreadable, origin, error.to_string()));
                return Ok(());
            }
            (Err(_), None) => return Ok(()),
        };
        let Some(first) = entries.first() else { return Ok(()) };
        let same = (source, first.record.captions.label.clone(), sha256_hex(&first.png));
        match self.seen.entry(same) {
            Place::Vacant(place) => {
                place.insert(first.record.source.clone());
            }
            Place::Occupied(stored) => {
                let message = format!("has the same pixels and caption as {}, which is stored", stored.get());
                let origin = first.record.source.clone();
                tally.leave_out(source, LeftOut::unusable(Reason::Duplicate, origin, message));
                return Ok(());
            }
        }
        tally.sources[source].stored += 1;
        tally.sources[source].enlarged += usize::from(enlarged);
        for entry in entries {
            *tally.sources[source].kinds.entry(entry.kind.to_owned()).or_default() += 1;
            self.append(entry)?;
        }
        Ok(())
    }

    fn append(&mut self, Entry { key, record, png, .. }: Entry) -> Result<(), DataError> {
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
        for subset in Subset::ALL.into_iter().filter(|subset| subset.contains(record.split, record.held_out))
        {
            *self.splits.entry(subset.to_string()).or_default() += 1;
        }
        Ok(())
    }
}
