//! The state of a training run on disk: the only place that publishes it.
//!
//! A run folder holds `checkpoints/step-NNNNNNNNN/` with `state.json`, `weights.safetensors` and `optimizer.safetensors`,
//! `checkpoints/LATEST` naming the newest whole one, `curve.png`, and `lock`, which keeps a second training out. A checkpoint is
//! written into a temporary folder, flushed, listed with sizes and SHA-256 in its `manifest.json`, renamed into place and only
//! then named by LATEST: a run killed at any moment resumes from the last whole checkpoint. A torn or altered folder is refused,
//! and the one before it is used.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{DType, FloatDType, TensorData};
use dalle_model::weights;
use dalle_shared::sha256_hex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::optimizer::{AdamW, AdamWConfig};
use dalle_data::say;
use dalle_native::publish::NewFolder;
use crate::run_state::RunState;
use dalle_data::{NewFolder, say};

/// Checkpoints kept: the newest and the one before it.
const KEPT: usize = 2;

/// A run's folder: nobody else's as long as this is held.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked until it is closed, which the system does for a process that was killed.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Size and SHA-256 of each file.
    files: BTreeMap<String, (u64, String)>,
}

const FILES: [&str; 3] = ["state.json", "weights.safetensors", "optimizer.safetensors"];

impl RunFolder {
    /// Opens or creates the folder, and locks it.
    ///
    /// # Errors
    /// It cannot be created, another training has it, or its `lock` is no plain file.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot create the run folder {}", path.display());
        fs::create_dir_all(path).with_context(cannot)?;
        let lock = open_lock(&path.join("lock"))?;
        // A file system that knows no locks cannot tell: nothing is refused there.
        ensure!(
            !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            "another training is running in {}; wait for its end, stop it, or name another --run folder",
            path.display()
        );
        fs::create_dir_all(path.join("checkpoints")).with_context(cannot)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Publishes a checkpoint.
    ///
    /// # Errors
    /// It cannot be written; earlier ones are then untouched.
    pub fn save<M: Module>(&self, state: &RunState, module: &M, optimizer: &AdamW) -> Result<()> {
        let (_, tensors) = optimizer.save();
        let views = tensors.iter().map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes())?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let contents = [
            serde_json::to_vec_pretty(state)?,
            weights::to_safetensors(module, FloatDType::F32)?,
            safetensors::serialize(views, None)?,
        ];
        let name = format!("step-{:09}", state.step);
        let folder = NewFolder::begin(&self.checkpoints().join(&name), "manifest.json", true)?;
        let mut files = BTreeMap::new();
        for (file, content) in FILES.iter().zip(&contents) {
            folder.write(file, content)?;
            files.insert((*file).to_owned(), (content.len() as u64, sha256_hex(content)));
        }
        folder.write("manifest.json", &serde_json::to_vec_pretty(&Manifest { files })?)?;
        folder.publish()?;
        self.point_latest_at(&name)?;
        for old in self.names()?.iter().rev().skip(KEPT) {
            fs::remove_dir_all(self.checkpoints().join(old))
                .with_context(|| format!("cannot remove the old checkpoint {old}"))?;
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

    /// Names of the checkpoints, oldest first.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.checkpoints())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("step-") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The newest whole checkpoint with its module and optimizer, or nothing if the run is new. `fresh` is the module to
    /// fill.
    ///
    /// # Errors
    /// Checkpoints exist but none is whole, or it was made with other `settings`.
    pub fn resume<M: Module>(
        &self,
        settings: &serde_json::Value,
        config: AdamWConfig,
        fresh: M,
    ) -> Result<Option<(RunState, M, AdamW)>> {
        let mut candidates = Vec::new();
        if let Ok(latest) = fs::read_to_string(self.checkpoints().join("LATEST")) {
            candidates.push(latest);
        }
        candidates.extend(self.names()?.into_iter().rev());
        candidates.dedup();
        let mut damage = None;
        for name in &candidates {
            match read_checkpoint(&self.checkpoints().join(name)) {
                Ok([state, weights, optimizer]) => {
                    let state = RunState::read(&state)?;
                    ensure!(
                        state.settings == *settings,
                        "{} was started with other settings ({}); continue with those, or name a new --run folder",
                        self.path.display(),
                        differences(&state.settings, settings)
                    );
                    let module = weights::from_safetensors(fresh, &weights)?;
                    let tensors = read_tensors(&optimizer)?;
                    let optimizer = AdamW::load(config, state.updates, tensors, &module)?;
                    return Ok(Some((state, module, optimizer)));
                }
                Err(error) => {
                    say(format_args!(
                        "dalle: checkpoint {name} is not whole, trying the one before it: {error:#}"
                    ));
                    damage = Some(error);
                }
            }
        }
        match damage {
            None => Ok(None),
            Some(error) => Err(error.context(format!(
                "no checkpoint in {} is whole; name a new --run folder to start again",
                self.path.display()
            ))),
        }
    }
}

/// Opens the file to lock, or creates it. One that is there may be anybody's: it is not followed where it is a link, and keeps its
/// content.
fn open_lock(path: &Path) -> Result<File> {
    ensure!(
        fs::symlink_metadata(path).map_or(true, |file| file.is_file()),
        "{} is no plain file, so it cannot be the run's lock; remove it, or name another --run folder",
        path.display()
    );
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    open.with_context(|| format!("cannot open the run's lock {}", path.display()))
}

fn read_checkpoint(folder: &Path) -> Result<[Vec<u8>; 3]> {
    let manifest: Manifest = serde_json::from_slice(
        &fs::read(folder.join("manifest.json")).context("manifest.json cannot be read")?,
    )?;
    let read = |name: &str| -> Result<Vec<u8>> {
        let Some((bytes, sha256)) = manifest.files.get(name) else { bail!("the manifest lacks {name}") };
        let content = fs::read(folder.join(name)).with_context(|| format!("{name} cannot be read"))?;
        ensure!(content.len() as u64 == *bytes, "{name} has {} bytes instead of {bytes}", content.len());
        ensure!(sha256_hex(&content) == *sha256, "{name} is damaged (wrong SHA-256)");
        Ok(content)
    };
    Ok([read(FILES[0])?, read(FILES[1])?, read(FILES[2])?])
}

fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>> {
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = file.iter().map(|(name, view)| {
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32);
        (name.to_owned(), data)
    });
    Ok(tensors.collect())
}

/// The top-level settings in which two runs differ.
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
