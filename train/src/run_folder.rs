//! The folder of a training run, and how checkpoints are written into it. No other code publishes a run's state.
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

use anyhow::{Context, Result, anyhow, bail, ensure};
use dalle_comm::Group;
use dalle_data::log_line;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::weights::to_safetensors;
use dalle_native::publish::{NewFolder, write_file};
use dalle_shared::sha256_hex;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::checkpoint::{
    Checkpoint, Manifest, Newest, OPTIMIZER, OwnCheckpoint, STATE, WEIGHTS, name_of, names,
};
use crate::optimizer::AdamW;
use crate::ranks::Ranks;
use crate::run_state::RunState;
use crate::shard_file::ShardName;

/// Number of checkpoints kept besides the best one.
const KEPT: usize = 2;

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
        let name = ranks.by_first(|| {
            let folder = folder.insert(self.begin(state.step)?);
            let name = folder.path().file_name().context("a temporary folder has a name")?;
            Ok(name.as_encoded_bytes().to_vec())
        })?;
        // Its name is ASCII; the path before it may be anything.
        let path = self.checkpoints().join(String::from_utf8(name)?);
        let write = |(name, content): (ShardName, Vec<u8>)| {
            ensure!(
                path.is_dir(),
                "{} does not exist; --run must be a folder that all ranks share",
                path.display()
            );
            write_file(&path.join(name.to_string()), &content)?;
            Ok((name.to_string(), (content.len() as u64, sha256_hex(&content))))
        };
        let written = shard.map(|shard| write(shard).map_err(|error| format!("{error:#}")));
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
                    self.check_identity(&checkpoint.state, identity)?;
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

    /// Reads the newest complete checkpoint on all ranks: each its own rows, if as many ranks wrote it, or else all of it. None if the run
    /// is new.
    ///
    /// # Errors
    /// As [`RunFolder::newest`] on the first rank; or another rank cannot read what the first one has read.
    pub(crate) fn newest_of_all(
        &self,
        identity: &serde_json::Value,
        ranks: &Ranks,
    ) -> Result<Option<Newest>> {
        if let Some(own) = self.newest_own(identity, ranks)? {
            return Ok(Some(Newest::Own(own)));
        }
        let mut newest = None;
        let step = ranks.by_first(|| {
            newest = self.newest(identity)?;
            Ok(serde_json::to_vec(&newest.as_ref().map(|newest| newest.state.step))?)
        })?;
        match serde_json::from_slice::<Option<u64>>(&step)? {
            Some(step) if newest.is_none() => {
                let name = name_of(step);
                let checkpoint = Checkpoint::read(&self.checkpoints().join(&name));
                let checkpoint = checkpoint.with_context(|| {
                    format!("the checkpoint {name}, which rank 0 has read; --run must be a folder that all machines share")
                })?;
                Ok(Some(Newest::Whole(checkpoint)))
            }
            _ => Ok(newest.map(Newest::Whole)),
        }
    }

    /// Each rank's rows of the newest checkpoint, if as many ranks wrote it and all can read theirs. Otherwise it is read as a whole, which
    /// deals with damaged ones.
    fn newest_own(&self, identity: &serde_json::Value, ranks: &Ranks) -> Result<Option<OwnCheckpoint>> {
        let Some(others) = ranks.others() else { return Ok(None) };
        let newest =
            ranks.by_first(|| Ok(names(&self.checkpoints())?.pop().unwrap_or_default().into_bytes()))?;
        let newest = String::from_utf8(newest)?;
        if newest.is_empty() {
            return Ok(None);
        }
        let name = ShardName { rank: others.rank(Group::Machine), ranks: others.size(Group::Machine) };
        let own = OwnCheckpoint::read(&self.checkpoints().join(newest), name).ok().flatten();
        let all = ranks.gather(vec![u8::from(own.is_some())])?;
        let Some(own) = own.filter(|_| all.iter().all(|read| read[..] == [1])) else { return Ok(None) };
        self.check_identity(&own.state, identity)?;
        Ok(Some(own))
    }

    /// Refuses to continue a run with other settings.
    fn check_identity(&self, state: &RunState, identity: &serde_json::Value) -> Result<()> {
        ensure!(
            state.identity == *identity,
            "{} was started with other settings ({}); continue with those, or choose a new --run folder",
            self.path.display(),
            differences(&state.identity, identity)
        );
        Ok(())
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
