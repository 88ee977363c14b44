//! A model folder on disk: `config.json`, `tokenizer.json`, `model.safetensors` (the prior), `decoder.safetensors`, and
//! where the model was trained here `encoder.safetensors`; and, where there is one, `clip.json` and `clip.safetensors` (the
//! contrastive model).

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::clip::{Clip, ClipConfig, ClipConfigError};
use dalle_model::config::ModelConfig;
use dalle_model::device::DeviceName;
use dalle_model::dvae::Decoder;
use dalle_model::memory;
use dalle_model::plan::Plan;
use dalle_model::precision::Precision;
use dalle_model::prior::Prior;
use dalle_model::sample::Batch;
use dalle_model::weights::{WeightsError, from_safetensors};
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::{ModelFile, ModelManifest, Tokenizer, TokenizerError, sha256_hex};

use crate::engine::{Loaded, ModelSampler};

/// A model as clients see it.
pub struct ServedModel {
    /// The answer to `GET /v1/model`.
    pub manifest: ModelManifest,
    /// Turns prompts into ids.
    pub tokenizer: Tokenizer,
    /// The contents of `manifest.files`, in their order: what was hashed is what is served, whatever happens on disk.
    pub contents: Vec<Bytes>,
}

/// A folder that holds no usable model.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error(
        "cannot read {path}: {cause}; expected a model folder with {CONFIG}, {TOKENIZER}, {PRIOR} and {DECODER}"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// `config.json` describes no model.
    #[error("{path} is no model configuration: {message}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// `clip.json` describes no contrastive model for this one.
    #[error("{path}: {cause}")]
    Clip {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: ClipConfigError,
    },
    /// A contrastive model is two files, and one is not there.
    #[error(
        "{missing} is missing, and {there} is there: a contrastive model needs both; `dalle clip train` makes them, and without \
         either the model draws but cannot choose"
    )]
    HalfClip {
        /// The file that is missing.
        missing: &'static str,
        /// The file that is there.
        there: PathBuf,
    },
    /// The tokenizer cannot be used.
    #[error("{path}: {cause}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: TokenizerError,
    },
    /// The tokenizer belongs to another model.
    #[error("{path} has {got} ids, config.json says at most {expected}: they belong to different models")]
    Vocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// `text_vocab`.
        expected: usize,
        /// The tokenizer's.
        got: usize,
    },
    /// Weights do not belong to the configuration.
    #[error("{path}: {cause}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: WeightsError,
    },
}

/// A folder with a readable configuration and all its files; nothing large is read yet.
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    /// Of the contrastive model, if there is one.
    clip: Option<ClipConfig>,
}

impl ModelFolder {
    /// Reads the configurations and looks for the other files: quick, so that a mistyped path is known at once.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let file = path.join(CONFIG);
        let refuse = |message: String| FolderError::Config { path: file.clone(), message };
        let config: ModelConfig =
            serde_json::from_slice(&read(&file)?).map_err(|error| refuse(error.to_string()))?;
        config.validate().map_err(|error| refuse(error.to_string()))?;
        for name in [TOKENIZER, PRIOR, DECODER] {
            let path = path.join(name);
            std::fs::metadata(&path).map_err(|cause| FolderError::Read { path, cause })?;
        }
        let clip = clip_config(path, &config)?;
        Ok(Self { path: path.to_owned(), config, clip })
    }

    /// Reads and hashes everything and puts the networks on a device. Takes seconds, for large models minutes.
    ///
    /// # Errors
    /// What does not fit, a device that this build does not have or that does not compute in `dtype`, or one with too little
    /// memory for the model and the caches of `max_rows` samples.
    pub fn load(self, device: DeviceName, dtype: Precision, max_rows: usize) -> anyhow::Result<Loaded> {
        let mut needed = Plan::new(&self.config).sampling(dtype, max_rows as u64, max_rows as u64);
        // Pictures are scored one by one.
        needed += self.clip.as_ref().map_or(0, |clip| Plan::scoring(clip, &self.config, 1));
        if device == DeviceName::Cpu {
            // The file lies in the same memory while the network is made.
            needed += std::fs::metadata(self.path.join(PRIOR)).map_or(0, |file| file.len());
        }
        memory::check(&format!("the model {} with {max_rows} rows", self.config.name), needed, device)?;
        let device = device.open_for(dtype)?;
        let at = |name: &str| self.path.join(name);
        let weights = |name: &str| {
            let path = at(name);
            move |cause| FolderError::Weights { path, cause }
        };
        let mut hashes = Vec::new();
        let mut take = |name: &'static str| -> Result<Bytes, FolderError> {
            let bytes = read(&at(name))?;
            hashes.push((name, sha256_hex(&bytes)));
            Ok(bytes.into())
        };
        // What a browser may ask for. A model without an encoder can draw, but not go on from a picture.
        let mut names = vec![CONFIG, TOKENIZER, DECODER];
        if at(ENCODER).exists() {
            names.push(ENCODER);
        }
        let contents = names.iter().copied().map(&mut take).collect::<Result<Vec<_>, _>>()?;
        let fresh = Prior::new(&self.config, &device).with_precision(dtype);
        let prior = from_safetensors(fresh, &take(PRIOR)?).map_err(weights(PRIOR))?;
        let clip = self.clip(&device).transpose()?;

        let network = Decoder::new(&self.config.dvae, &device);
        let decoder = from_safetensors(network, &contents[2]).map_err(weights(DECODER))?;
        let tokenizer = self.tokenizer(&contents[1])?;

        let sha256 = |name: &str| hashes.iter().find(|(file, _)| *file == name).map(|(_, hash)| hash.clone());
        let files = names.iter().zip(&contents).filter_map(|(name, bytes)| {
            let sha256 = sha256(name)?;
            // The address changes with the content, so that it may be cached for ever.
            let url = format!("/v1/model/files/{name}?sha256={sha256}");
            Some(ModelFile { name: (*name).to_owned(), url, bytes: bytes.len() as u64, sha256 })
        });
        let manifest = ModelManifest {
            name: self.config.name.clone(),
            hash: ModelManifest::hash_files(hashes.iter().map(|(name, hash)| (*name, hash.as_str()))),
            geometry: self.config.geometry(),
            prior_parameters: prior.num_params() as u64,
            scores: clip.is_some(),
            max_rows,
            files: files.collect(),
            examples: self.config.examples.clone(),
            license: self.config.license.clone(),
        };
        let batch = Batch::new(prior, &self.config);
        let sampler = ModelSampler { batch, decoder, grid: manifest.geometry.grid, clip };
        Ok(Loaded { model: ServedModel { manifest, tokenizer, contents }, sampler: Box::new(sampler) })
    }

    /// The contrastive model, if the folder has one.
    fn clip(&self, device: &Device) -> Option<Result<Clip, FolderError>> {
        let network = Clip::new(self.clip.as_ref()?, &self.config, device);
        let path = self.path.join(CLIP);
        Some(read(&path).and_then(|bytes| {
            from_safetensors(network, &bytes).map_err(|cause| FolderError::Weights { path, cause })
        }))
    }

    fn tokenizer(&self, json: &[u8]) -> Result<Tokenizer, FolderError> {
        let path = self.path.join(TOKENIZER);
        match Tokenizer::from_json(json) {
            Err(cause) => Err(FolderError::Tokenizer { path, cause }),
            Ok(tokenizer) if tokenizer.vocab_size() > self.config.text_vocab => {
                Err(FolderError::Vocabulary {
                    path,
                    expected: self.config.text_vocab,
                    got: tokenizer.vocab_size(),
                })
            }
            Ok(tokenizer) => Ok(tokenizer),
        }
    }
}

/// The configuration of a folder's contrastive model, if it has one.
fn clip_config(folder: &Path, model: &ModelConfig) -> Result<Option<ClipConfig>, FolderError> {
    let [config, weights] = [CLIP_CONFIG, CLIP].map(|name| folder.join(name));
    match (config.exists(), weights.exists()) {
        (false, false) => Ok(None),
        (true, false) => Err(FolderError::HalfClip { missing: CLIP, there: config }),
        (false, true) => Err(FolderError::HalfClip { missing: CLIP_CONFIG, there: weights }),
        (true, true) => {
            let tokenizer = sha256_hex(&read(&folder.join(TOKENIZER))?);
            let parsed = ClipConfig::of_folder(&read(&config)?, model, &tokenizer);
            parsed.map(Some).map_err(|cause| FolderError::Clip { path: config, cause })
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    std::fs::read(path).map_err(|cause| FolderError::Read { path: path.to_owned(), cause })
}
