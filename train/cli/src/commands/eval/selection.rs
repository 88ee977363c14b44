//! Selects the images of a dataset that a metric is computed on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dalle_data::{Dataset, Example, Subset};
use dalle_shared::sha256_hex;

use super::provenance::Provenance;
use super::values;

/// Options that select images of a dataset.
#[derive(clap::Args)]
pub struct SelectionArgs {
    /// Dataset folder.
    #[arg(long)]
    pub data: PathBuf,
    /// Part of the dataset: train, val, or of a dataset made by a recipe val-concept, val-style or val-pair.
    #[arg(long, default_value = "val")]
    split: Subset,
    /// Number of images, chosen by hash [default: all].
    #[arg(long, value_parser = values::count())]
    count: Option<usize>,
    /// File with the keys of images to leave out, one per line, as written by `dalle eval overlap --removed`.
    #[arg(long)]
    without: Option<PathBuf>,
}

/// The selected images.
pub struct Selection<'a> {
    /// The examples, ordered by the hashes of their keys.
    pub examples: Vec<&'a Example>,
    /// The keys of --without.
    left_out: BTreeSet<String>,
}

impl SelectionArgs {
    /// Selects the examples.
    ///
    /// # Errors
    /// The list of --without cannot be read or belongs to another dataset, or there are fewer images than --count.
    pub fn select<'a>(&self, dataset: &'a Dataset) -> Result<Selection<'a>> {
        let left_out = self.without.as_deref().map(read_keys).transpose()?.unwrap_or_default();
        if let Some(path) = &self.without {
            let known: BTreeSet<&str> = dataset.examples.iter().map(|example| example.key.as_str()).collect();
            let unknown = left_out.iter().find(|key| !known.contains(key.as_str()));
            ensure!(
                unknown.is_none(),
                "{} contains the key `{}`, which is not in {}: the list belongs to another dataset",
                path.display(),
                unknown.map_or("", |key| key),
                self.data.display()
            );
        }
        let mut examples: Vec<(String, &Example)> = dataset
            .subset(self.split)
            .filter(|example| !left_out.contains(&example.key))
            .map(|example| (sha256_hex(format!("choose {}", example.key).as_bytes()), example))
            .collect();
        let available = examples.len();
        let count = self.count.unwrap_or(available);
        ensure!(
            available > 0 && available >= count,
            "{} has {available} images to choose from, expected at least {}; choose another --split, or build the dataset with a \
             larger --val",
            self.data.display(),
            count.max(1)
        );
        examples.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Selection {
            examples: examples.into_iter().take(count).map(|(_, example)| example).collect(),
            left_out,
        })
    }

    /// Records the selection. A list of keys is recorded as its length and the SHA-256 of its sorted lines.
    pub fn record(&self, selection: &Selection, mut provenance: Provenance) -> Provenance {
        provenance = provenance.option("split", self.split);
        if let Some(count) = self.count {
            provenance = provenance.option("count", count);
        }
        if self.without.is_some() {
            let left_out = &selection.left_out;
            let lines: String = left_out.iter().map(|key| format!("{key}\n")).collect();
            let list = format!("{} keys {}", left_out.len(), sha256_hex(lines.as_bytes()));
            provenance = provenance.option("without", list);
        }
        provenance
    }
}

/// Reads a list of keys, one per line.
fn read_keys(path: &Path) -> Result<BTreeSet<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the list {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
