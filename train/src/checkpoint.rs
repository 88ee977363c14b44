//! Reads the checkpoints of a training run, which `run_folder.rs` writes.
//!
//! ```text
//! let checkpoint = Checkpoint::open(run, Which::Best)?;
//! let network = checkpoint.network(fresh, Weights::Averaged)?;
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use dalle_comm::Communicator;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{DType, TensorData};
use dalle_model::weights::from_safetensors;
use dalle_shared::sha256_hex;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::optimizer::{AdamW, AdamWConfig, averaged};
use crate::run_state::RunState;
use crate::shard_file::{ShardName, joined};
use crate::shards::{Compress, ShardedAdamW};

/// The file with the state of the run.
pub(crate) const STATE: &str = "state.json";
/// The files with tensors of a checkpoint that one rank wrote.
pub(crate) const WEIGHTS: &str = "weights.safetensors";
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";

/// The files of a checkpoint.
#[derive(Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Size and SHA-256 of each file.
    pub files: BTreeMap<String, (u64, String)>,
}

impl Manifest {
    fn read(folder: &Path) -> Result<Self> {
        let bytes = fs::read(folder.join("manifest.json")).context("manifest.json cannot be read")?;
        serde_json::from_slice(&bytes).context("manifest.json is not a list of files")
    }

    /// The content of a listed file, if it has the listed size and SHA-256.
    fn read_file(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let Some((bytes, sha256)) = self.files.get(name) else { bail!("the manifest does not list {name}") };
        let content = fs::read(folder.join(name)).with_context(|| format!("{name} cannot be read"))?;
        ensure!(content.len() as u64 == *bytes, "{name}: expected {bytes} bytes, got {}", content.len());
        ensure!(sha256_hex(&content) == *sha256, "{name} has another SHA-256 than the manifest lists");
        Ok(content)
    }
}

/// The newest readable state in the run folder at `path`, or None if the run is new. The folder is neither locked nor changed.
///
/// # Errors
/// The folder exists but cannot be listed.
pub fn newest_state(path: &Path) -> Result<Option<RunState>> {
    let checkpoints = path.join("checkpoints");
    if !checkpoints.exists() {
        return Ok(None);
    }
    let states = names(&checkpoints)?.into_iter().rev().map(|name| {
        let folder = checkpoints.join(name);
        RunState::read(&Manifest::read(&folder)?.read_file(&folder, STATE)?)
    });
    Ok(states.into_iter().find_map(Result::ok))
}

/// Selects a checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest complete one.
    Newest,
    /// The one with the lowest validation loss.
    Best,
    /// The one after this many updates.
    Step(u64),
}

/// Selects the weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The exponentially weighted average, which training writes at the end.
    Averaged,
    /// The weights that the next update would change.
    Raw,
}

/// A complete checkpoint.
pub struct Checkpoint {
    /// The state of the run.
    pub state: RunState,
    /// Contents of the safetensors files.
    weights: Vec<u8>,
    optimizer: Vec<u8>,
    /// The sums of error buffers over machines, by path, if gradients were compressed.
    errors: BTreeMap<String, TensorData>,
}

impl Checkpoint {
    /// Reads a checkpoint of the run at `run`. The folder is neither locked nor changed.
    ///
    /// # Errors
    /// There is no such checkpoint, or it is damaged.
    pub fn open(run: &Path, which: Which) -> Result<Self> {
        let folder = run.join("checkpoints");
        let names = names(&folder).with_context(|| format!("{} is not a run folder", run.display()))?;
        let of_step = |step| {
            let name = name_of(step);
            ensure!(
                names.contains(&name),
                "{} has no checkpoint after update {step}; it has {}",
                run.display(),
                names.join(", ")
            );
            Self::read(&folder.join(&name)).with_context(|| format!("the checkpoint {name} is damaged"))
        };
        match which {
            Which::Newest => {
                let whole = names.iter().rev().find_map(|name| Self::read(&folder.join(name)).ok());
                whole.with_context(|| format!("no checkpoint in {} is complete", run.display()))
            }
            Which::Best => {
                let best = newest_state(run)?.and_then(|state| state.best);
                let best = best.with_context(|| {
                    format!(
                        "{} was not validated, so it has no best checkpoint; train with --validate-every",
                        run.display()
                    )
                })?;
                of_step(best.step)
            }
            Which::Step(step) => of_step(step),
        }
    }

    /// Loads the checkpoint's weights into `fresh`.
    ///
    /// # Errors
    /// They do not fit the network.
    pub fn network<M: Module>(&self, fresh: M, weights: Weights) -> Result<M> {
        let module = from_safetensors(fresh, &self.weights)?;
        match weights {
            Weights::Averaged => averaged(module, read_tensors(&self.optimizer)?),
            Weights::Raw => Ok(module),
        }
    }

    /// Reads a checkpoint and checks the size and SHA-256 of every file.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let read = |name: &str| manifest.read_file(folder, name);
        let state = RunState::read(&read(STATE)?)?;
        let shards = manifest.files.keys().filter(|name| name.starts_with("shard-"));
        let shards = shards.map(|name| read(name)).collect::<Result<Vec<_>>>()?;
        if shards.is_empty() {
            let (weights, optimizer) = (read(WEIGHTS)?, read(OPTIMIZER)?);
            return Ok(Self { state, weights, optimizer, errors: BTreeMap::new() });
        }
        let [weights, optimizer, errors] = joined(&shards)?;
        Ok(Self { state, weights, optimizer, errors: read_tensors(&errors)? })
    }

    /// Loads the checkpoint into `fresh` and a new optimizer.
    ///
    /// # Errors
    /// It is not one of this network.
    pub fn restore<M: Module>(self, config: AdamWConfig, fresh: M) -> Result<(RunState, M, AdamW)> {
        let module = from_safetensors(fresh, &self.weights)?;
        let optimizer = AdamW::load(config, self.state.updates, read_tensors(&self.optimizer)?, &module)?;
        Ok((self.state, module, optimizer))
    }

    /// Loads the checkpoint into `fresh` and a rank's part of a new optimizer.
    ///
    /// # Errors
    /// It is not one of this network.
    pub fn restore_rows<M: Module>(
        self,
        settings: (AdamWConfig, Option<Compress>),
        communicator: &Arc<Communicator>,
        fresh: M,
    ) -> Result<(RunState, M, ShardedAdamW)> {
        let module = from_safetensors(fresh, &self.weights)?;
        let (updates, tensors) = (self.state.updates, read_tensors(&self.optimizer)?);
        let tensors = (tensors, &self.errors);
        let optimizer = ShardedAdamW::load(settings, updates, tensors, Arc::clone(communicator), &module)?;
        Ok((self.state, module, optimizer))
    }
}

/// A complete checkpoint of several ranks, of which a rank has read its own rows.
pub(crate) struct OwnCheckpoint {
    /// The state of the run.
    pub state: RunState,
    /// Content of the rank's file.
    rows: Vec<u8>,
}

impl OwnCheckpoint {
    /// Reads the file of one rank and the state, and checks their sizes and SHA-256. None if the checkpoint is of another number of ranks.
    pub fn read(folder: &Path, name: ShardName) -> Result<Option<Self>> {
        let manifest = Manifest::read(folder)?;
        let shards = manifest.files.keys().filter(|name| name.starts_with("shard-"));
        if shards.count() != name.ranks || !manifest.files.contains_key(&name.to_string()) {
            return Ok(None);
        }
        let state = RunState::read(&manifest.read_file(folder, STATE)?)?;
        Ok(Some(Self { state, rows: manifest.read_file(folder, &name.to_string())? }))
    }

    /// Loads the checkpoint into `fresh`, of which other ranks have the other rows, and a rank's part of a new optimizer. All ranks call it.
    ///
    /// # Errors
    /// It is not one of this network, or communication failed.
    pub fn restore<M: Module>(
        self,
        settings: (AdamWConfig, Option<Compress>),
        communicator: &Arc<Communicator>,
        fresh: M,
    ) -> Result<(RunState, M, ShardedAdamW)> {
        let (updates, communicator) = (self.state.updates, Arc::clone(communicator));
        let (module, optimizer) =
            ShardedAdamW::load_rows(settings, updates, read_tensors(&self.rows)?, communicator, fresh)?;
        Ok((self.state, module, optimizer))
    }
}

/// The newest complete checkpoint, as a rank has read it.
pub(crate) enum Newest {
    /// All of it.
    Whole(Checkpoint),
    /// This rank's rows.
    Own(OwnCheckpoint),
}

/// Name of the checkpoint after `step` updates.
pub(crate) fn name_of(step: u64) -> String {
    format!("step-{step:09}")
}

/// The names of the checkpoints in `folder`, oldest first.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("step-") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>> {
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = file.iter().map(|(name, view)| {
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32);
        (name.to_owned(), data)
    });
    Ok(tensors.collect())
}
