//! Checkpoints of a training run. No other code publishes a run's state.
//!
//! A run folder contains:
//!
//! - `checkpoints/step-NNNNNNNNN/` with `state.json`, `weights.safetensors`, `optimizer.safetensors` and `manifest.json`
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

use anyhow::{Context, Result, bail, ensure};
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{DType, FloatDType, TensorData};
use dalle_model::weights::{from_safetensors, to_safetensors};
use dalle_shared::sha256_hex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::optimizer::{AdamW, AdamWConfig, averaged};
use crate::run_state::RunState;
use dalle_data::log_line;
use dalle_native::publish::{NewFolder, write_file};

/// Number of checkpoints kept besides the best one.
const KEPT: usize = 2;

/// The files of a checkpoint that its manifest lists.
const FILES: [&str; 3] = ["state.json", "weights.safetensors", "optimizer.safetensors"];

/// Folder in a run folder with the network's configuration files and tokenizer.
pub const MODEL: &str = "model";

/// Files of a model folder: names and contents.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A run folder, locked by one training.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lock is released when the file is closed, also if the process is killed.
    _lock: File,
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
        Ok(Self { path: path.to_owned(), _lock: lock })
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
        let contents = [
            serde_json::to_vec_pretty(state)?,
            to_safetensors(module, FloatDType::F32)?,
            safetensors::serialize(views, None)?,
        ];
        let name = name_of(state.step);
        let folder = NewFolder::begin(&self.checkpoints().join(&name), "manifest.json", true)?;
        let mut files = BTreeMap::new();
        for (file, content) in FILES.iter().zip(&contents) {
            folder.write(file, content)?;
            files.insert((*file).to_owned(), (content.len() as u64, sha256_hex(content)));
        }
        folder.write("manifest.json", &serde_json::to_vec_pretty(&Manifest { files })?)?;
        folder.publish()?;
        self.point_latest_at(&name)?;
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

    /// Loads the newest complete checkpoint: its state, `fresh` with its weights, and its optimizer. None if the run is new.
    ///
    /// # Errors
    /// Checkpoints exist but none is complete, or the newest complete one has another `identity`.
    pub fn resume<M: Module>(
        &self,
        identity: &serde_json::Value,
        config: AdamWConfig,
        fresh: M,
    ) -> Result<Option<(RunState, M, AdamW)>> {
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
                    let resumed = checkpoint.restore(config, fresh)?;
                    damaged.iter().try_for_each(|name| self.set_aside(name))?;
                    return Ok(Some(resumed));
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
        RunState::read(&Manifest::read(&folder)?.read_file(&folder, FILES[0])?)
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
        let read = |name| manifest.read_file(folder, name);
        let [state, weights, optimizer] = FILES;
        Ok(Self {
            state: RunState::read(&read(state)?)?,
            weights: read(weights)?,
            optimizer: read(optimizer)?,
        })
    }

    /// Loads the checkpoint into `fresh` and a new optimizer.
    fn restore<M: Module>(self, config: AdamWConfig, fresh: M) -> Result<(RunState, M, AdamW)> {
        let module = from_safetensors(fresh, &self.weights)?;
        let optimizer = AdamW::load(config, self.state.updates, read_tensors(&self.optimizer)?, &module)?;
        Ok((self.state, module, optimizer))
    }
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
