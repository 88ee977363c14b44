//! Reads the files of a model folder. Anything but a regular file of bounded size is refused.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use dalle_model::clip::ClipConfig;
use dalle_model::config::ModelConfig;
use dalle_model::weights::{FILE_START, wrong_file};
use dalle_shared::Tokenizer;
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, TOKENIZER};
use serde::de::DeserializeOwned;

use super::FolderError;

/// A kind of file.
pub(super) struct Kind {
    /// Its name in messages.
    name: &'static str,
    /// Maximum size in bytes. Weights have none: header and configuration determine how much is read.
    limit: u64,
    /// What to do if it is missing.
    help: &'static str,
}

const MODEL_CONFIG: Kind = Kind {
    name: "configuration",
    limit: 1 << 20,
    help: "expected a model folder, or a configuration such as configs/tiny.json",
};
const CLIP_MODEL_CONFIG: Kind =
    Kind { name: "CLIP configuration", limit: 1 << 20, help: "create it with `dalle clip train`" };
const VOCABULARY: Kind =
    Kind { name: "tokenizer", limit: 256 << 20, help: "create it with `dalle tokenizer train`" };
const DVAE_WEIGHTS: Kind =
    Kind { name: "weights", limit: u64::MAX, help: "create it with `dalle dvae train`" };
const PRIOR_WEIGHTS: Kind =
    Kind { name: "weights", limit: u64::MAX, help: "create it with `dalle prior train`" };
const CLIP_WEIGHTS: Kind =
    Kind { name: "weights", limit: u64::MAX, help: "create it with `dalle clip train`" };

impl Kind {
    /// The kind of a file of a model folder.
    pub fn of(name: &str) -> &'static Self {
        match name {
            CONFIG => &MODEL_CONFIG,
            CLIP_CONFIG => &CLIP_MODEL_CONFIG,
            TOKENIZER => &VOCABULARY,
            ENCODER | DECODER => &DVAE_WEIGHTS,
            CLIP => &CLIP_WEIGHTS,
            _ => &PRIOR_WEIGHTS,
        }
    }

    /// What a file is that is not weights, and what to do; None if it is not recognised.
    pub fn wrong_file(&self, path: &Path) -> Option<&'static str> {
        let mut start = Vec::new();
        self.open(path).ok()?.take(FILE_START as u64).read_to_end(&mut start).ok()?;
        wrong_file(&start)
    }

    /// Opens a regular file. Opening a pipe would wait for its other end.
    pub fn open(&self, path: &Path) -> Result<File, FolderError> {
        if fs::metadata(path).map_err(|cause| self.unreadable(path, cause))?.is_file() {
            File::open(path).map_err(|cause| self.unreadable(path, cause))
        } else {
            Err(FolderError::NotAFile(path.to_owned()))
        }
    }

    /// Reads a regular file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, FolderError> {
        let mut bytes = Vec::new();
        self.open(path)?
            .take(self.limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|cause| self.unreadable(path, cause))?;
        if bytes.len() as u64 > self.limit {
            return Err(FolderError::TooLarge { path: path.to_owned(), kind: self.name, limit: self.limit });
        }
        Ok(bytes)
    }

    /// The error for a file of this kind that cannot be read.
    pub fn unreadable(&self, path: &Path, cause: io::Error) -> FolderError {
        FolderError::Read { path: path.to_owned(), kind: self.name, cause, help: self.help }
    }

    fn parse<T: DeserializeOwned>(&self, path: &Path, json: &[u8]) -> Result<T, FolderError> {
        serde_json::from_slice(json).map_err(|cause| FolderError::Json {
            path: path.to_owned(),
            kind: self.name,
            cause,
        })
    }
}

/// Reads and checks a model's configuration.
///
/// # Errors
/// The file is missing, malformed, or has a field out of range.
pub fn read_config(path: &Path) -> Result<ModelConfig, FolderError> {
    Ok(read_config_and_json(path)?.0)
}

/// [`read_config`], and the content of the file.
pub(super) fn read_config_and_json(path: &Path) -> Result<(ModelConfig, Vec<u8>), FolderError> {
    let json = MODEL_CONFIG.read(path)?;
    let config: ModelConfig = MODEL_CONFIG.parse(path, &json)?;
    config.validate().map_err(|cause| FolderError::Config { path: path.to_owned(), cause })?;
    Ok((config, json))
}

/// Reads and checks the configuration of a CLIP for `model`.
///
/// # Errors
/// The file is missing, malformed, or does not fit this model.
pub fn read_clip_config(path: &Path, model: &ModelConfig) -> Result<ClipConfig, FolderError> {
    let config: ClipConfig = CLIP_MODEL_CONFIG.parse(path, &CLIP_MODEL_CONFIG.read(path)?)?;
    config.validate(model).map_err(|cause| FolderError::Config { path: path.to_owned(), cause })?;
    Ok(config)
}

/// Reads a tokenizer for `model`; also returns the content of the file.
///
/// # Errors
/// The file is missing, malformed, or has more ids than the model.
pub fn read_tokenizer(path: &Path, model: &ModelConfig) -> Result<(Tokenizer, Vec<u8>), FolderError> {
    let json = VOCABULARY.read(path)?;
    let tokenizer = Tokenizer::from_json(&json)
        .map_err(|cause| FolderError::Tokenizer { path: path.to_owned(), cause })?;
    let (expected, got) = (model.text_vocab, tokenizer.vocab_size());
    if got > expected {
        return Err(FolderError::Vocabulary { path: path.to_owned(), expected, got });
    }
    Ok((tokenizer, json))
}
