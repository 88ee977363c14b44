//! Checkpoints of a training run. No other code publishes a run's state.
//!
//! A run folder contains:
//!
//! - `checkpoints/step-NNNNNNNNN/` with `state.json`, `weights.safetensors`, `optimizer.safetensors` and `manifest.json`; or of
//!   several ranks, instead of the two files with tensors, `shard-RRR-of-NNN.safetensors` with rank RRR's rows of each tensor
//! - `checkpoints/LATEST`, the name of the newest checkpoint
//! - `model/`, the configuration of the network
//! - `curve.png`, and metrics for other programs
//! - `lock`, which prevents a second training in the folder
//!
//! A checkpoint is written to a temporary folder, flushed, listed in its manifest with sizes and SHA-256, renamed, and only then
//! named in LATEST. A run that is killed at any moment resumes from its newest complete checkpoint. A damaged checkpoint is renamed
//! to `damaged-step-NNNNNNNNN`, and the one before it is used.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dalle_comm::Communicator;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{DType, FloatDType, TensorData};
use dalle_model::weights::{WeightsError, from_safetensors, to_safetensors};
use dalle_shared::sha256_hex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::optimizer::{AdamW, AdamWConfig, averaged};
use crate::ranks::Ranks;
use crate::run_state::RunState;
use crate::shards::{Compress, SavedRows, ShardedAdamW};
use dalle_data::log_line;
use dalle_native::publish::{NewFolder, write_file};

/// Number of checkpoints kept besides the best one.
const KEPT: usize = 2;

/// The file with the state of the run.
const STATE: &str = "state.json";
/// The files with tensors of a checkpoint that one rank wrote.
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Folder in a run folder with the network's configuration files and tokenizer.
pub const MODEL: &str = "model";

/// Files of a model folder: names and contents.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A run folder, locked by one training.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lock is released when the file is closed, also if the process is killed. The first rank has it for all ranks.
    _lock: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Size and SHA-256 of each file.
    files: BTreeMap<String, (u64, String)>,
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

impl RunFolder {
    /// Opens or creates the folder and locks it.
    ///
    /// # Errors
    /// It cannot be created, another training has locked it, or its `lock` is not a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot create the run folder {}", path.display());
        fs::create_dir_all(path).with_context(cannot)?;
        let lock = open_lock(&path.join("lock"))?;
        // On a file system without locks nothing is refused.
        ensure!(
            !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            "another training is running in {}; wait for it to end, stop it, or choose another --run folder",
            path.display()
        );
        fs::create_dir_all(path.join("checkpoints")).with_context(cannot)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// The folder that the first of several ranks has opened.
    pub fn join(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes a checkpoint and removes old ones.
    ///
    /// # Errors
    /// It cannot be written. Earlier ones are then unchanged.
    pub fn save<M: Module>(&self, state: &RunState, module: &M, optimizer: &AdamW) -> Result<()> {
        let (_, tensors) = optimizer.save();
        let views = tensors.iter().map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes())?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let weights = to_safetensors(module, FloatDType::F32)?;
        let folder = self.begin(state.step)?;
        let mut files = BTreeMap::new();
        for (name, content) in [(WEIGHTS, weights), (OPTIMIZER, safetensors::serialize(views, None)?)] {
            folder.write(name, &content)?;
            files.insert(name.to_owned(), (content.len() as u64, sha256_hex(&content)));
        }
        self.publish(folder, state, files)
    }

    /// Writes a checkpoint of several ranks and removes old ones: each rank of the first machine writes its rows, the first rank the
    /// rest. All ranks call it, those of other machines with `None`.
    ///
    /// # Errors
    /// A rank cannot write its file, of which all ranks are told, or communication failed. Earlier checkpoints are then unchanged.
    pub fn save_rows(
        &self,
        state: &RunState,
        ranks: &Ranks,
        shard: Option<(ShardName, Vec<u8>)>,
    ) -> Result<()> {
        let mut folder = None;
        let path = ranks.by_first(|| {
            let folder = folder.insert(self.begin(state.step)?);
            Ok(folder.path().as_os_str().as_encoded_bytes().to_vec())
        })?;
        let path = PathBuf::from(String::from_utf8(path).context("the path of the run folder is not UTF-8")?);
        let written = shard.map(|(name, content)| {
            let listed = (content.len() as u64, sha256_hex(&content));
            let written = write_file(&path.join(name.to_string()), &content);
            written.map(|()| (name.to_string(), listed)).map_err(|error| format!("{:#}", anyhow!(error)))
        });
        let all = ranks.gather(serde_json::to_vec(&written)?)?;
        let mut files = BTreeMap::new();
        for (rank, written) in all.iter().enumerate() {
            match serde_json::from_slice::<Option<Result<(String, (u64, String)), String>>>(written)? {
                Some(Ok((name, listed))) => drop(files.insert(name, listed)),
                Some(Err(error)) => bail!("rank {rank} cannot write its part of a checkpoint: {error}"),
                None => {}
            }
        }
        let published = match folder {
            Some(folder) => self.publish(folder, state, files).map_err(|error| format!("{error:#}")),
            None => Ok(()),
        };
        let published = ranks.by_first(|| Ok(serde_json::to_vec(&published)?))?;
        serde_json::from_slice::<Result<(), String>>(&published)?.map_err(|error| anyhow!(error))
    }

    /// A folder that becomes the checkpoint after update `step`.
    fn begin(&self, step: u64) -> Result<NewFolder> {
        Ok(NewFolder::begin(&self.checkpoints().join(name_of(step)), "manifest.json", true)?)
    }

    /// Makes a folder that contains `files` the newest checkpoint.
    fn publish(
        &self,
        folder: NewFolder,
        state: &RunState,
        mut files: BTreeMap<String, (u64, String)>,
    ) -> Result<()> {
        let content = serde_json::to_vec_pretty(state)?;
        folder.write(STATE, &content)?;
        files.insert(STATE.to_owned(), (content.len() as u64, sha256_hex(&content)));
        folder.write("manifest.json", &serde_json::to_vec_pretty(&Manifest { files })?)?;
        folder.publish()?;
        self.point_latest_at(&name_of(state.step))?;
        let best = state.best.map(|best| name_of(best.step));
        let names = names(&self.checkpoints())?;
        for old in names.iter().rev().skip(KEPT).filter(|name| Some(*name) != best.as_ref()) {
            fs::remove_dir_all(self.checkpoints().join(old))
                .with_context(|| format!("cannot remove the old checkpoint {old}"))?;
        }
        Ok(())
    }

    /// Writes the network's configuration files, which [`Export`](crate::export::Export) needs besides a checkpoint.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep(&self, files: &Files) -> Result<()> {
        for (name, content) in files {
            let path = self.path.join(MODEL).join(name);
            if fs::read(&path).ok().as_ref() != Some(content) {
                write_file(&path, content)?;
            }
        }
        Ok(())
    }

    fn point_latest_at(&self, name: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.checkpoints())?;
        file.write_all(name.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.checkpoints().join("LATEST"))?;
        File::open(self.checkpoints())?.sync_all()?;
        Ok(())
    }

    /// Reads the newest complete checkpoint. None if the run is new.
    ///
    /// # Errors
    /// Checkpoints exist but none is complete, or the newest complete one has another `identity`.
    pub fn newest(&self, identity: &serde_json::Value) -> Result<Option<Checkpoint>> {
        let mut damaged: Vec<String> = Vec::new();
        for name in names(&self.checkpoints())?.into_iter().rev() {
            match Checkpoint::read(&self.checkpoints().join(&name)) {
                Ok(checkpoint) => {
                    let state = &checkpoint.state;
                    ensure!(
                        state.identity == *identity,
                        "{} was started with other settings ({}); continue with those, or choose a new --run folder",
                        self.path.display(),
                        differences(&state.identity, identity)
                    );
                    damaged.iter().try_for_each(|name| self.set_aside(name))?;
                    return Ok(Some(checkpoint));
                }
                Err(error) => {
                    log_line(format_args!(
                        "dalle: checkpoint {name} is damaged, trying the one before it: {error:#}"
                    ));
                    damaged.push(name);
                }
            }
        }
        ensure!(
            damaged.is_empty(),
            "no checkpoint in {} is complete; choose a new --run folder to start again",
            self.path.display()
        );
        Ok(None)
    }

    /// Reads the newest complete checkpoint on all ranks. None if the run is new.
    ///
    /// # Errors
    /// As [`RunFolder::newest`] on the first rank; or another rank cannot read what the first one has read.
    pub fn newest_of_all(&self, identity: &serde_json::Value, ranks: &Ranks) -> Result<Option<Checkpoint>> {
        let mut newest = None;
        let step = ranks.by_first(|| {
            newest = self.newest(identity)?;
            Ok(serde_json::to_vec(&newest.as_ref().map(|newest| newest.state.step))?)
        })?;
        match serde_json::from_slice::<Option<u64>>(&step)? {
            Some(step) if newest.is_none() => {
                let name = name_of(step);
                let checkpoint = Checkpoint::read(&self.checkpoints().join(&name));
                checkpoint.map(Some).with_context(|| {
                    format!("the checkpoint {name}, which rank 0 has read; --run must be a folder that all machines share")
                })
            }
            _ => Ok(newest),
        }
    }

    /// Renames a damaged checkpoint, because its name is needed for the next checkpoint after the same update.
    fn set_aside(&self, name: &str) -> Result<()> {
        let (from, to) = (self.checkpoints().join(name), self.checkpoints().join(format!("damaged-{name}")));
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        fs::rename(&from, &to)
            .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
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
    fn read(folder: &Path) -> Result<Self> {
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

/// The weights and the optimizer's state of all ranks, as one rank writes them, and the error buffers.
fn joined(shards: &[Vec<u8>]) -> Result<[Vec<u8>; 3]> {
    let shards = shards.iter().map(|shard| SafeTensors::deserialize(shard)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = shards.first() else { bail!("no shards") };
    /// Shape and bytes of each tensor.
    type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;
    let mut tensors: [Tensors; 3] = Default::default();
    for name in first.names() {
        let (mut shape, mut bytes) = (Vec::new(), Vec::new());
        // A rank without rows of a matrix has no error buffer of it.
        for rows in shards.iter().filter_map(|shard| shard.tensor(name).ok()) {
            match shape.first_mut() {
                Some(sum) => *sum += rows.shape().first().copied().unwrap_or_default(),
                None => shape = rows.shape().to_vec(),
            }
            bytes.extend_from_slice(rows.data());
        }
        let (kind, path) = match name.rsplit_once(':') {
            Some((path, "weight")) => (0, path),
            Some((path, "error")) => (2, path),
            _ => (1, name),
        };
        if kind == 1 {
            // Flat, as one rank's are.
            shape = vec![shape.iter().product()];
        }
        tensors[kind].insert(path.to_owned(), (shape, bytes));
    }
    let [weights, optimizer, errors] = tensors.map(|tensors| {
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, None)
    });
    Ok([weights?, optimizer?, errors?])
}

/// The name of a file with the rows of one of several ranks.
#[derive(Clone, Copy, Debug)]
pub struct ShardName {
    /// Number of the rank on its machine.
    pub rank: usize,
    /// Ranks of the machine.
    pub ranks: usize,
}

impl std::fmt::Display for ShardName {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "shard-{:03}-of-{:03}.safetensors", self.rank, self.ranks)
    }
}

/// The content of a file with a rank's rows.
///
/// # Errors
/// A value of the weights is not finite.
pub(crate) fn shard_file(rows: &[SavedRows]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> =
        rows.iter().map(|rows| rows.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let mut views = Vec::with_capacity(rows.len());
    for (rows, bytes) in rows.iter().zip(&bytes) {
        if rows.values.iter().any(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite(rows.name.clone()).into());
        }
        views.push((rows.name.as_str(), TensorView::new(Dtype::F32, rows.shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize(views, None)?)
}

/// Name of the checkpoint after `step` updates.
fn name_of(step: u64) -> String {
    format!("step-{step:09}")
}

/// The names of the checkpoints in `folder`, oldest first.
fn names(folder: &Path) -> Result<Vec<String>> {
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

/// Opens or creates the lock file. An existing file could be anything, so a symlink is not followed and the content is kept.
fn open_lock(path: &Path) -> Result<File> {
    ensure!(
        fs::symlink_metadata(path).map_or(true, |file| file.is_file()),
        "{} is not a regular file, so it cannot be the run's lock; remove it, or choose another --run folder",
        path.display()
    );
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    open.with_context(|| format!("cannot open the run's lock {}", path.display()))
}

fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>> {
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = file.iter().map(|(name, view)| {
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32);
        (name.to_owned(), data)
    });
    Ok(tensors.collect())
}

/// The settings that differ between the identities of two runs.
fn differences(then: &serde_json::Value, now: &serde_json::Value) -> String {
    let (Some(then), Some(now)) = (then.as_object(), now.as_object()) else {
        return "another kind of run".to_owned();
    };
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differing = keys.into_iter().filter(|key| then.get(*key) != now.get(*key));
    let show = |value: Option<&serde_json::Value>| value.map_or("unset".to_owned(), ToString::to_string);
    differing
        .map(|key| format!("{key}: then {}, now {}", show(then.get(key)), show(now.get(key))))
        .collect::<Vec<_>>()
        .join("; ")
}
