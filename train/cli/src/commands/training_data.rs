//! Options of the training commands for what they read.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use dalle_data::{Item, Shards, Share, Split, TrainingData};
use dalle_native::device::DeviceName;
use dalle_native::memory;

/// Batches in memory at the same time: in use, waiting, handed over, in preparation.
const BATCHES: u64 = 4;

/// Datasets and memory for them.
#[derive(clap::Args)]
pub struct DataArgs {
    /// Dataset folder. Several are mixed, each by its weight: `--data photos=3 --data drawings=1`. Without weights, all
    /// examples are read equally often.
    #[arg(long, required = true, value_name = "FOLDER[=WEIGHT]", value_parser = weighted)]
    data: Vec<(PathBuf, Option<f64>)>,
    /// Memory for training data in MB. A dataset that fits is read once and shuffled as a whole; of a larger one, half of this
    /// is shuffled at a time.
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    buffer: u64,
}

impl DataArgs {
    /// The datasets' training split, in an order that depends on the seed.
    ///
    /// # Errors
    /// A folder is not a dataset or has no examples to train on.
    pub fn open(&self, seed: u64) -> Result<TrainingData> {
        let open = |(folder, weight): &(PathBuf, Option<f64>)| Ok((Shards::open(folder)?, *weight));
        let datasets = self.data.iter().map(open).collect::<Result<_>>()?;
        self.training_data(datasets, Split::Train, seed)
    }

    /// The same options for other datasets.
    ///
    /// # Errors
    /// A dataset has no examples of the split.
    pub fn training_data(
        &self,
        datasets: Vec<(Shards, Option<f64>)>,
        split: Split,
        seed: u64,
    ) -> Result<TrainingData> {
        Ok(TrainingData::new(datasets, split, seed, self.buffer.saturating_mul(1_000_000))?)
    }

    /// At most `count` examples of the validation splits, of each dataset in proportion to its size. The same for all seeds, so
    /// that runs can be compared.
    ///
    /// # Errors
    /// No dataset has a validation split.
    pub fn held_out(&self, data: &TrainingData, count: usize) -> Result<Vec<Item>> {
        let total: usize = data.datasets().map(|(shards, _)| shards.manifest().val).sum();
        ensure!(
            total > 0,
            "--validate-every: expected a dataset with a validation split, this one has none; build it with \
             `dalle data build --val 0.1`"
        );
        let mut held_out = Vec::new();
        for (dataset, (shards, _)) in data.datasets().enumerate() {
            let val = shards.manifest().val;
            let share = (count.min(total) * val).div_ceil(total);
            if share > 0 {
                let split = self.training_data(vec![(shards.clone(), None)], Split::Val, 0)?;
                let items = split.reader(Share::whole(share)).items(0)?;
                held_out.extend(items.into_iter().map(|item| Item { dataset, ..item }));
            }
        }
        held_out.truncate(count);
        Ok(held_out)
    }

    /// Refuses data that do not fit into memory beside the training, before anything is read. `training` is what the training
    /// needs on its device, `example` what a prepared example needs.
    ///
    /// # Errors
    /// What is needed and what is free.
    pub fn check_memory(
        &self,
        data: &TrainingData,
        training: u64,
        (batch, example): (usize, u64),
        device: DeviceName,
    ) -> Result<()> {
        let needed = data.memory() + BATCHES * batch as u64 * example;
        let what = format!("training data with --batch {batch} --buffer {}", self.buffer);
        match device {
            DeviceName::Cpu | DeviceName::LibTorch => {
                memory::check(&format!("the training and {what}"), training + needed, device)?;
            }
            DeviceName::Cuda(_) | DeviceName::Wgpu => memory::check(&what, needed, DeviceName::Cpu)?,
        }
        Ok(())
    }
}

/// A dataset folder with its weight. A folder whose name holds `=` is taken as it is.
fn weighted(text: &str) -> Result<(PathBuf, Option<f64>), String> {
    if Path::new(text).exists() {
        return Ok((text.into(), None));
    }
    match text.rsplit_once('=') {
        None => Ok((text.into(), None)),
        Some((folder, weight)) => match weight.parse() {
            Ok(weight) if weight > 0.0 && f64::is_finite(weight) => Ok((folder.into(), Some(weight))),
            _ => Err(format!("expected a weight above 0 after `=`, got `{weight}`")),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_dataset_may_have_a_weight() {
        assert_eq!(weighted("photos"), Ok(("photos".into(), None)));
        assert_eq!(weighted("a=b/photos=2.5"), Ok(("a=b/photos".into(), Some(2.5))));
        for wrong in ["photos=", "photos=0", "photos=-1", "photos=nan", "photos=inf", "photos=many"] {
            assert!(weighted(wrong).unwrap_err().starts_with("expected a weight above 0"), "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("x=3");
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(weighted(odd.to_str().unwrap()), Ok((odd, None)));
    }
}
