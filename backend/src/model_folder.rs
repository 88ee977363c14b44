//! A model folder on disk: `config.json`, `tokenizer.json`, `model.safetensors` (the prior), `decoder.safetensors`, and
//! where the model was trained here `encoder.safetensors`.

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::clip::{Clip, ClipConfig};
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
}

impl ModelFolder {
    /// Reads the configuration and looks for the other files: quick, so that a mistyped path is known at once.
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
        Ok(Self { path: path.to_owned(), config })
    }

    /// Reads and hashes everything and puts the networks on a device. Takes seconds, for large models minutes.
    ///
    /// # Errors
    /// What does not fit, a device that this build does not have, or one with too little memory for the model and the
    /// caches of `max_rows` samples.
    pub fn load(self, device: DeviceName, dtype: Precision, max_rows: usize) -> anyhow::Result<Loaded> {
        let mut needed = Plan::new(&self.config).sampling(dtype, max_rows as u64, max_rows as u64);
        if device == DeviceName::Cpu {
            // The file lies in the same memory while the network is made.
            needed += std::fs::metadata(self.path.join(PRIOR)).map_or(0, |file| file.len());
        }
        memory::check(&format!("the model {} with {max_rows} rows", self.config.name), needed, device)?;
        let device = device.open()?;
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
        let clip = self.clip(&device)?;

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
            files: files.collect(),
            examples: self.config.examples.clone(),
            license: self.config.license.clone(),
        };
        let batch = Batch::new(prior, &self.config);
        let sampler = ModelSampler { batch, decoder, grid: manifest.geometry.grid, clip };
        Ok(Loaded { model: ServedModel { manifest, tokenizer, contents }, sampler: Box::new(sampler) })
    }

    /// The contrastive model, if the folder has one.
    fn clip(&self, device: &Device) -> Result<Option<Clip>, FolderError> {
        let (path, file) = (self.path.join(CLIP_CONFIG), self.path.join(CLIP));
        if !path.exists() && !file.exists() {
            return Ok(None);
        }
        let refuse = |message: String| FolderError::Config { path: path.clone(), message };
        let config: ClipConfig =
            serde_json::from_slice(&read(&path)?).map_err(|error| refuse(error.to_string()))?;
        config.validate(&self.config).map_err(|error| refuse(error.to_string()))?;
        if config.tokenizer != Some(sha256_hex(&read(&self.path.join(TOKENIZER))?)) {
            return Err(refuse(format!("it was trained with another {TOKENIZER} than the one beside it")));
        }
        let network = Clip::new(&config, &self.config, device);
        let clip = from_safetensors(network, &read(&file)?);
        clip.map(Some).map_err(|cause| FolderError::Weights { path: file, cause })
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

fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    std::fs::read(path).map_err(|cause| FolderError::Read { path: path.to_owned(), cause })
}
