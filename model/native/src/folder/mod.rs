//! A model on disk, in the Hugging Face layout.
//!
//! `config.json`, `tokenizer.json`, `model.safetensors` (the prior), `encoder.safetensors` and `decoder.safetensors` (the dVAE),
//! `README.md` (the model card); optionally `clip.json` and `clip.safetensors` (CLIP). Each training command adds its part, and
//! replaces the folder as a whole.
//!
//! ```text
//! let folder = ModelFolder::open(Path::new("assets/models/drawings-128"))?;
//! let prior = folder.prior(&device, Precision::F32)?;
//! ```

mod error;
mod origin;
mod read;
mod weights_file;

use std::path::{Path, PathBuf};

use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::clip::{Clip, ClipConfig};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{Decoder, Encoder, ImageDecoder, ImageEncoder};
use dalle_model::precision::Precision;
use dalle_model::prior::Prior;
use dalle_model::weights::{self, WeightsError};
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::{ModelManifest, Tokenizer, sha256_hex};

pub use error::FolderError;
pub use origin::Origin;
use read::{Kind, read_config_and_json};
pub use read::{read_clip_config, read_config, read_tokenizer};
use weights_file::WeightsFile;

use crate::publish::{NewFolder, recover};

/// An open model folder.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// The configuration.
    pub config: ModelConfig,
    /// The content of `config.json`.
    pub config_json: Vec<u8>,
}

impl ModelFolder {
    /// Opens a folder that contains at least a configuration.
    ///
    /// # Errors
    /// The configuration is missing or invalid.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        if !path.exists() {
            // If the folder cannot be recovered, reading it reports the error.
            let _ = recover(path);
        }
        let (config, config_json) = read_config_and_json(&path.join(CONFIG))?;
        Ok(Self { path: path.to_owned(), config, config_json })
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it has one of its files.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Checks that files exist, and that those with weights are whole, before slow work starts.
    ///
    /// # Errors
    /// The first file that is missing, with the command that creates it, that is not a regular file, or that is damaged.
    pub fn require(&self, names: &[&str]) -> Result<(), FolderError> {
        names.iter().try_for_each(|name| match name.ends_with(".safetensors") {
            true => self.weights_file(name).map(drop),
            false => Kind::of(name).open(&self.file(name)).map(drop),
        })
    }

    /// Whether the folder has CLIP.
    ///
    /// # Errors
    /// Only one of CLIP's two files exists.
    pub fn has_clip(&self) -> Result<bool, FolderError> {
        match (self.has(CLIP_CONFIG), self.has(CLIP)) {
            (true, false) => Err(FolderError::HalfClip { missing: CLIP, existing: self.file(CLIP_CONFIG) }),
            (false, true) => Err(FolderError::HalfClip { missing: CLIP_CONFIG, existing: self.file(CLIP) }),
            (both, _) => Ok(both),
        }
    }

    /// The content of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, FolderError> {
        Kind::of(name).read(&self.file(name))
    }

    /// SHA-256 of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sha256(&self, name: &str) -> Result<String, FolderError> {
        let (kind, path) = (Kind::of(name), self.file(name));
        weights_file::sha256(&mut kind.open(&path)?).map_err(|cause| kind.unreadable(&path, cause))
    }

    /// The model's hash, as in the server's manifest: over the files that affect generated images.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn hash(&self) -> Result<String, FolderError> {
        let names = [CONFIG, TOKENIZER, PRIOR, ENCODER, DECODER].into_iter().filter(|name| self.has(name));
        let hashes: Vec<(&str, String)> =
            names.map(|name| Ok((name, self.sha256(name)?))).collect::<Result<_, FolderError>>()?;
        Ok(ModelManifest::hash_files(hashes.iter().map(|(name, sha256)| (*name, sha256.as_str()))))
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The file is missing, is not a tokenizer, or has more ids than the configuration.
    pub fn tokenizer(&self) -> Result<Tokenizer, FolderError> {
        Ok(read_tokenizer(&self.file(TOKENIZER), &self.config)?.0)
    }

    /// The dVAE's encoder.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn encoder(&self, device: &Device) -> Result<ImageEncoder, FolderError> {
        self.load(ENCODER, Encoder::new(&self.config.dvae, device)).map(ImageEncoder::new)
    }

    /// The dVAE's decoder.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn decoder(&self, device: &Device) -> Result<ImageDecoder, FolderError> {
        self.load(DECODER, Decoder::new(&self.config.dvae, device)).map(ImageDecoder::new)
    }

    /// The prior.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn prior(&self, device: &Device, precision: Precision) -> Result<Prior, FolderError> {
        self.load(PRIOR, Prior::new(&self.config, device).with_precision(precision))
    }

    /// The prior, and SHA-256 of the file it was loaded from, which is read only once.
    ///
    /// # Errors
    /// As [`prior`](Self::prior).
    pub fn prior_and_sha256(
        &self,
        device: &Device,
        precision: Precision,
    ) -> Result<(Prior, String), FolderError> {
        let mut file = self.weights_file(PRIOR)?;
        let sha256 = file.sha256().map_err(|cause| Kind::of(PRIOR).unreadable(&self.file(PRIOR), cause))?;
        let fresh = Prior::new(&self.config, device).with_precision(precision);
        let prior = weights::load(fresh, &mut file).map_err(|cause| self.weights_error(PRIOR, cause))?;
        Ok((prior, sha256))
    }

    /// The configuration of CLIP.
    ///
    /// # Errors
    /// The file is missing or does not fit the model, or CLIP was trained with another tokenizer.
    pub fn clip_config(&self) -> Result<ClipConfig, FolderError> {
        let config = read_clip_config(&self.file(CLIP_CONFIG), &self.config)?;
        if config.tokenizer == Some(self.sha256(TOKENIZER)?) {
            Ok(config)
        } else {
            Err(FolderError::ClipTokenizer(self.path.clone()))
        }
    }

    /// CLIP.
    ///
    /// # Errors
    /// As [`clip_config`](Self::clip_config), or the weights are missing or do not fit.
    pub fn clip(&self, device: &Device) -> Result<Clip, FolderError> {
        self.load(CLIP, Clip::new(&self.clip_config()?, &self.config, device))
    }

    /// `fresh` with the weights in the file `name`.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn load<M: Module>(&self, name: &str, fresh: M) -> Result<M, FolderError> {
        let mut file = self.weights_file(name)?;
        weights::load(fresh, &mut file).map_err(|cause| self.weights_error(name, cause))
    }

    fn weights_file(&self, name: &str) -> Result<WeightsFile, FolderError> {
        let (kind, path) = (Kind::of(name), self.file(name));
        WeightsFile::new(kind.open(&path)?).map_err(|cause| match kind.wrong_file(&path) {
            Some(what) => FolderError::WrongFile { path, what },
            None => FolderError::Weights { path, cause },
        })
    }

    fn weights_error(&self, name: &str, cause: WeightsError) -> FolderError {
        FolderError::Weights { path: self.file(name), cause }
    }

    /// Loads `bytes`, the content of the file `name`, into `fresh`.
    ///
    /// # Errors
    /// They do not fit the configuration.
    pub fn load_from<M: Module>(&self, name: &str, fresh: M, bytes: &[u8]) -> Result<M, FolderError> {
        weights::from_safetensors(fresh, bytes).map_err(|cause| self.weights_error(name, cause))
    }

    /// The content of the weights file `name`, after checking that it fits `module`.
    ///
    /// # Errors
    /// The file is missing or does not fit the configuration.
    pub fn read_weights<M: Module>(&self, name: &str, module: &M) -> Result<Vec<u8>, FolderError> {
        let mut file = self.weights_file(name)?;
        // Only now is it known how large the file may be.
        weights::check(module, &mut file).map_err(|cause| self.weights_error(name, cause))?;
        file.content().map_err(|cause| Kind::of(name).unreadable(&self.file(name), cause))
    }

    /// Checks that a model can be written to `path`, before hours of training.
    ///
    /// # Errors
    /// `path` exists and is not a model folder, or its parent cannot be written.
    pub fn check_target(path: &Path) -> Result<(), FolderError> {
        NewFolder::begin(path, CONFIG, true)?;
        Ok(())
    }

    /// Writes `parts` (file names and contents) into the folder at `path`, replacing files of the same names and keeping all
    /// others. Creates the folder if it is missing.
    ///
    /// # Errors
    /// The folder cannot be written, exists and is not a model folder, or contains a prior for which `parts` has the wrong encoder.
    /// It is then unchanged.
    pub fn write(path: &Path, parts: &[(&str, Vec<u8>)]) -> Result<(), FolderError> {
        let folder = NewFolder::begin(path, CONFIG, true)?;
        if path.exists() {
            if let Some((_, encoder)) = parts.iter().find(|(name, _)| *name == ENCODER) {
                check_codebook(path, encoder)?;
            }
            let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            folder.keep_from(path, &names)?;
        }
        for (name, content) in parts {
            folder.write(name, content)?;
        }
        Ok(folder.publish()?)
    }
}

/// Checks that `encoder` is the one whose tokens the prior in the folder at `path` was trained on, if there is a prior.
fn check_codebook(path: &Path, encoder: &[u8]) -> Result<(), FolderError> {
    let old = Kind::of(ENCODER).read(&path.join(ENCODER)).ok();
    if !path.join(PRIOR).exists() || old.as_deref() == Some(encoder) {
        return Ok(());
    }
    match Origin::read(path, PRIOR).and_then(|origin| origin.encoder) {
        Some(expected) if expected == sha256_hex(encoder) => Ok(()),
        None if old.is_none() => Err(FolderError::UnknownCodebook(path.to_owned())),
        _ => Err(FolderError::OtherCodebook(path.to_owned())),
    }
}
