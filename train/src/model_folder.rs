//! A model on disk, in the Hugging Face layout: `config.json`, `tokenizer.json`, `model.safetensors` (the prior),
//! `encoder.safetensors` and `decoder.safetensors` (the dVAE), `README.md` (the model card); and, where there is one,
//! `clip.json` and `clip.safetensors` (the contrastive model).
//!
//! Training adds the parts one after another; the folder is always replaced as a whole.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::clip::{Clip, ClipConfig, ClipConfigError};
use dalle_model::config::ModelConfig;
use dalle_model::device::DeviceName;
use dalle_model::dvae::{Decoder, Encoder};
use dalle_model::precision::Precision;
use dalle_model::prior::Prior;
use dalle_model::weights;
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::{ModelManifest, Tokenizer, sha256_hex};

use dalle_data::NewFolder;

/// A model folder, opened.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// Its configuration.
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Opens a folder that holds at least a configuration.
    ///
    /// # Errors
    /// There is none, or it describes no model.
    pub fn open(path: &Path) -> Result<Self> {
        let config = read_config(&path.join(CONFIG))?;
        Ok(Self { path: path.to_owned(), config })
    }

    /// Checks that a model can be written to `path`: before hours of training, not after.
    ///
    /// # Errors
    /// It exists and is no model folder, or its parent cannot be written.
    pub fn check_target(path: &Path) -> Result<()> {
        NewFolder::begin(path, CONFIG, true)?;
        Ok(())
    }

    /// Writes `parts` (file name and content) into the folder at `path`, replacing files of the same names and keeping
    /// everything else; creates it where there is none.
    ///
    /// # Errors
    /// It cannot be written, exists and is no model folder, or holds a prior that was trained on the codebook of another
    /// encoder; it is then as it was.
    pub fn write(path: &Path, parts: &[(&str, Vec<u8>)]) -> Result<()> {
        let folder = NewFolder::begin(path, CONFIG, true)?;
        if path.exists() {
            for (name, content) in parts {
                let same = || fs::read(path.join(name)).is_ok_and(|old| old == *content);
                ensure!(
                    *name != ENCODER || !path.join(PRIOR).exists() || same(),
                    "{} holds a prior that was trained on the codebook of another encoder; the same command with another folder \
                     writes what was trained",
                    path.display()
                );
            }
            let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            folder.take_over(path, &names)?;
        }
        for (name, content) in parts {
            folder.write(name, content)?;
        }
        folder.publish()?;
        Ok(())
    }

    /// SHA-256 of one of its files.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sha256(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(sha256_hex(&bytes))
    }

    /// The folder's identity, as the server gives it: over those of its files that change what it draws.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn hash(&self) -> Result<String> {
        let names = [CONFIG, TOKENIZER, PRIOR, ENCODER, DECODER];
        let there = names.into_iter().filter(|name| self.path.join(name).exists());
        let hashes: Vec<(&str, String)> =
            there.map(|name| Ok((name, self.sha256(name)?))).collect::<Result<_>>()?;
        Ok(ModelManifest::hash_files(hashes.iter().map(|(name, sha256)| (*name, sha256.as_str()))))
    }

    /// Bytes of the prior's file, which lie in the machine's memory beside the network while it is made: 0 for other devices.
    pub fn held_while_loading(&self, device: DeviceName) -> u64 {
        match device {
            DeviceName::Cpu | DeviceName::LibTorch => {
                fs::metadata(self.path.join(PRIOR)).map_or(0, |file| file.len())
            }
            DeviceName::Cuda(_) | DeviceName::Wgpu => 0,
        }
    }

    /// Checks that files are there, before anything is slow.
    ///
    /// # Errors
    /// The first that is not, and the command that makes it.
    pub fn require(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let path = self.path.join(name);
            fs::metadata(&path).with_context(|| unreadable(&path, name))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        fs::read(&path).with_context(|| unreadable(&path, name))
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The file is missing or no tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(Tokenizer::from_json(&self.read(TOKENIZER)?)?)
    }

    /// The dVAE encoder.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn encoder(&self, device: &Device) -> Result<Encoder> {
        self.load(ENCODER, Encoder::new(&self.config.dvae, device))
    }

    /// The dVAE decoder.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn decoder(&self, device: &Device) -> Result<Decoder> {
        self.load(DECODER, Decoder::new(&self.config.dvae, device))
    }

    /// The prior.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn prior(&self, device: &Device, precision: Precision) -> Result<Prior> {
        let fresh = Prior::new(&self.config, device).with_precision(precision);
        self.load(PRIOR, fresh)
    }

    /// The contrastive model's configuration.
    ///
    /// # Errors
    /// The file is missing or does not fit the model's, or the folder's tokenizer is not the one that it was trained with.
    pub fn clip_config(&self) -> Result<ClipConfig> {
        let (json, tokenizer) = (self.read(CLIP_CONFIG)?, self.sha256(TOKENIZER)?);
        ClipConfig::of_folder(&json, &self.config, &tokenizer).map_err(|error| {
            // What is wrong with a field names the file itself.
            let place = match error {
                ClipConfigError::Config(_) => self.path.clone(),
                _ => self.path.join(CLIP_CONFIG),
            };
            anyhow::Error::new(error).context(place.display().to_string())
        })
    }

    /// The contrastive model.
    ///
    /// # Errors
    /// As [`clip_config`](Self::clip_config), or its weights are missing or do not fit.
    pub fn clip(&self, device: &Device) -> Result<Clip> {
        self.load(CLIP, Clip::new(&self.clip_config()?, &self.config, device))
    }

    fn load<M: Module>(&self, name: &str, fresh: M) -> Result<M> {
        let bytes = self.read(name)?;
        weights::from_safetensors(fresh, &bytes)
            .with_context(|| format!("{}", self.path.join(name).display()))
    }
}

/// What is said of a file that cannot be read.
fn unreadable(path: &Path, name: &str) -> String {
    let made_by = match name {
        ENCODER | DECODER => "dalle dvae train",
        CLIP | CLIP_CONFIG => "dalle clip train",
        _ => "dalle prior train",
    };
    format!("cannot read {}; `{made_by}` makes it", path.display())
}

/// Reads a configuration. What was named by mistake may be weights, or endless.
fn read_small(path: &Path) -> Result<Vec<u8>> {
    const LIMIT: u64 = 1 << 20;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= LIMIT,
        "{} is no configuration: expected JSON of at most 1 MiB, it is larger",
        path.display()
    );
    Ok(bytes)
}

/// Reads and checks a configuration.
///
/// # Errors
/// The file is missing, not of this form, or describes no model.
pub fn read_config(path: &Path) -> Result<ModelConfig> {
    let config: ModelConfig = serde_json::from_slice(&read_small(path)?)
        .with_context(|| format!("{} is no model configuration", path.display()))?;
    config.validate()?;
    Ok(config)
}

/// Reads and checks the configuration of a contrastive model for `model`.
///
/// # Errors
/// The file is missing, not of this form, or describes no contrastive model for it.
pub fn read_clip_config(path: &Path, model: &ModelConfig) -> Result<ClipConfig> {
    ClipConfig::from_json(&read_small(path)?, model).with_context(|| format!("{}", path.display()))
}
