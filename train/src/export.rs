//! Exports a checkpoint into a model folder.
//!
//! ```text
//! let export = Export::of(run, Which::Newest, Weights::Averaged)?;
//! export.write(out)?;
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::clip::Clip;
use dalle_model::dvae::Dvae;
use dalle_model::prior::Prior;
use dalle_model::weights::{to_safetensors, to_safetensors_with};
use dalle_native::{ModelFolder, Origin, read_clip_config, read_config};
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, PRIOR, TOKENIZER, VOCABULARY};
use dalle_shared::sha256_hex;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Weights, Which, newest_state};
use crate::run_folder::{Files, MODEL};
use crate::run_state::NetworkKind;

/// A checkpoint's network, as files of a model folder.
pub struct Export {
    /// The kind of network.
    pub network: NetworkKind,
    /// Updates after which the checkpoint was saved.
    pub step: u64,
    /// Configurations and tokenizer.
    pub small: Files,
    /// Weights, in 16 bits, and the vocabulary of a prior.
    pub weights: Files,
    /// The training of the weights.
    origin: Origin,
}

impl Export {
    /// Reads a checkpoint of the run at `run`, whose training may still be running.
    ///
    /// # Errors
    /// There is no such checkpoint, it is damaged, or the run is from a version that did not store its configuration.
    pub fn of(run: &Path, which: Which, weights: Weights) -> Result<Self> {
        let checkpoint = Checkpoint::open(run, which)?;
        let network = checkpoint.state.network().with_context(|| {
            format!("{}: its checkpoint does not say which network it contains", run.display())
        })?;
        let small = small_files(&run.join(MODEL))?;
        let (config, device) = (read_config(&run.join(MODEL).join(CONFIG))?, Device::flex());
        let step = checkpoint.state.step;
        let origin = origin(&checkpoint.state.identity);
        let weights = match network {
            NetworkKind::Dvae => dvae_files(&checkpoint.network(Dvae::new(&config.dvae, &device), weights)?)?,
            NetworkKind::Prior => {
                let prior = checkpoint.network(Prior::new(&config, &device), weights)?;
                // With the prior it replaces an older one, as the weights do.
                let vocabulary = fs::read(run.join(MODEL).join(VOCABULARY)).ok();
                let vocabulary: Files = vocabulary.map(|json| (VOCABULARY, json)).into_iter().collect();
                [prior_files(&prior, &origin)?, vocabulary].concat()
            }
            NetworkKind::Clip => {
                let clip = read_clip_config(&run.join(MODEL).join(CLIP_CONFIG), &config)?;
                clip_files(&checkpoint.network(Clip::new(&clip, &config, &device), weights)?, &origin)?
            }
        };
        Ok(Self { network, step, small, weights, origin })
    }

    /// Writes the network into the model folder at `out`, creating the folder if it is missing.
    ///
    /// # Errors
    /// The folder belongs to another model, or cannot be written. It is then unchanged.
    pub fn write(&self, out: &Path) -> Result<()> {
        let there = |name: &str| fs::read(out.join(name)).ok();
        for (name, content) in &self.small {
            ensure!(
                there(name).is_none_or(|old| old == *content),
                "{} contains another {name} than the run; choose another --out folder",
                out.display()
            );
        }
        if let (Some(expected), Some(encoder)) = (&self.origin.encoder, there(ENCODER)) {
            ensure!(
                sha256_hex(&encoder) == *expected,
                "{} contains another encoder than the one whose tokens the prior was trained on; choose another --out folder",
                out.display()
            );
        }
        Ok(ModelFolder::write(out, &[self.small.as_slice(), &self.weights].concat())?)
    }
}

/// The origin of the weights of a run with this `identity`.
pub fn origin(identity: &Value) -> Origin {
    Origin {
        run: sha256_hex(sorted(identity).to_string().as_bytes()),
        encoder: identity["encoder"].as_str().map(str::to_owned),
    }
}

/// Checks, before training, that the weights file `name` in the model folder at `folder` is missing or of the run at `run`, whose
/// weights have this `origin`. A file of an older version does not state its origin; it is compared with the newest checkpoint.
///
/// # Errors
/// The file is of another training, or the run folder cannot be listed.
pub fn check_replaces_own(folder: &Path, name: &str, run: &Path, origin: &Origin) -> Result<()> {
    // If the run was started with other settings, resuming it reports them.
    let started = newest_state(run)?.map_or_else(|| origin.clone(), |state| self::origin(&state.identity));
    let own = || match Origin::read(folder, name) {
        Some(stated) => stated.run == started.run,
        None => Export::of(run, Which::Newest, Weights::Averaged).is_ok_and(|export| {
            let expected = export.weights.iter().find(|(file, _)| *file == name);
            expected.is_some_and(|(_, expected)| same_tensors(&folder.join(name), expected))
        }),
    };
    ensure!(
        !folder.join(name).exists() || own(),
        "{} is from another training than {}; name another --model folder, or replace it with --overwrite",
        folder.join(name).display(),
        run.display()
    );
    Ok(())
}

/// Whether the safetensors file at `path` has the tensors of `expected`, whatever the metadata.
fn same_tensors(path: &Path, expected: &[u8]) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    match (SafeTensors::deserialize(&bytes), SafeTensors::deserialize(expected)) {
        (Ok(file), Ok(expected)) => {
            file.len() == expected.len()
                && file.iter().all(|(name, view)| expected.tensor(name).is_ok_and(|other| other == view))
        }
        _ => false,
    }
}

/// `value` with the fields of all objects in alphabetical order, so that the order of options in the code is not part of an origin.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.into_iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The weights of a dVAE as files of a model folder, in 16 bits.
///
/// # Errors
/// A weight is not finite in 16 bits.
pub fn dvae_files(dvae: &Dvae) -> Result<Files> {
    Ok(vec![(ENCODER, half(&dvae.encoder)?), (DECODER, half(&dvae.decoder)?)])
}

/// The weights of a prior as a file of a model folder, in 16 bits. The file states `origin`.
///
/// # Errors
/// A weight is not finite in 16 bits.
pub fn prior_files(prior: &Prior, origin: &Origin) -> Result<Files> {
    Ok(vec![(PRIOR, half_of(prior, origin)?)])
}

/// The weights of CLIP as a file of a model folder, in 16 bits. The file states `origin`.
///
/// # Errors
/// A weight is not finite in 16 bits.
pub fn clip_files(clip: &Clip, origin: &Origin) -> Result<Files> {
    Ok(vec![(CLIP, half_of(clip, origin)?)])
}

fn half<M: Module>(module: &M) -> Result<Vec<u8>> {
    Ok(to_safetensors(module, FloatDType::F16)?)
}

fn half_of<M: Module>(module: &M, origin: &Origin) -> Result<Vec<u8>> {
    let metadata = (Origin::KEY, serde_json::to_string(origin)?);
    Ok(to_safetensors_with(module, FloatDType::F16, metadata)?)
}

/// Reads the configuration files and the tokenizer in `folder`.
fn small_files(folder: &Path) -> Result<Files> {
    let names = [CONFIG, TOKENIZER, CLIP_CONFIG].into_iter().filter(|name| folder.join(name).exists());
    let files: Files = names.map(|name| Ok((name, fs::read(folder.join(name))?))).collect::<Result<_>>()?;
    ensure!(
        files.iter().any(|(name, _)| *name == CONFIG),
        "{} contains no {CONFIG}, because the run is from an older version; start its training again to write it",
        folder.display()
    );
    Ok(files)
}
