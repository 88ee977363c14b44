//! Loads a model folder into what clients see and what the engine runs.

use std::path::Path;

use axum::body::Bytes;
use dalle_model::burn::module::Module;
use dalle_model::dvae::{Decoder, Encoder, ImageDecoder, ImageEncoder};
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::sample;
use dalle_native::device::DeviceName;
use dalle_native::{FolderError, ModelFolder, memory, read_tokenizer};
use dalle_shared::files::{CONFIG, DECODER, ENCODER, MODEL_CARD, PRIOR, TOKENIZER, VOCABULARY};
use dalle_shared::{ModelFile, ModelManifest, sha256_hex};

use crate::engine::{Loaded, ModelSampler};
use crate::served::ServedModel;

/// Largest prior that browsers may download to sample without the server. Larger ones would take too long there, and it is kept in
/// memory.
const LARGEST_PRIOR_FOR_BROWSERS: u64 = 64 << 20;

/// Opens a model folder and checks that its files exist and are whole. Fast, so that a mistyped path is reported immediately.
///
/// # Errors
/// A file is missing, malformed or truncated.
pub fn open_model(path: &Path) -> Result<ModelFolder, FolderError> {
    let folder = ModelFolder::open(path)?;
    folder.require(&[TOKENIZER, PRIOR, DECODER])?;
    if folder.has(ENCODER) {
        folder.require(&[ENCODER])?;
    }
    if folder.has_clip()? {
        folder.clip_config()?;
    }
    Ok(folder)
}

/// Reads and hashes all files and loads the networks onto a device. Takes seconds, or minutes for large models.
///
/// # Errors
/// A file does not fit the configuration, this build has no such device, the device does not support `dtype`, or it has too little
/// memory for the model and the caches of `max_rows` samples.
pub fn load_model(
    folder: &ModelFolder,
    device: DeviceName,
    dtype: Precision,
    max_rows: usize,
) -> anyhow::Result<Loaded> {
    let config = &folder.config;
    let (footprint, computed) = (Footprint::new(config), device.computed(true));
    let mut needed = footprint.sampling(config, computed, dtype, max_rows as u64, max_rows as u64);
    let scores = folder.has_clip()?;
    if scores {
        // Images are scored one by one.
        needed += Footprint::scoring(&folder.clip_config()?, config, 1);
    }
    if folder.has(ENCODER) {
        // Images are encoded one by one.
        let grid = config.geometry().grid as u64;
        needed += footprint.encoding(config, computed, (grid, grid), 1);
    }
    memory::check(&format!("the model {} with {max_rows} rows", config.name), needed, device)?;
    let device = device.open_for(dtype)?;

    let (tokenizer, tokenizer_json) = read_tokenizer(&folder.file(TOKENIZER), config)?;
    let mut files = vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, tokenizer_json)];
    let fresh = Decoder::new(&config.dvae, &device);
    let bytes = folder.read_weights(DECODER, &fresh)?;
    let decoder = ImageDecoder::new(folder.load_from(DECODER, fresh, &bytes)?);
    files.push((DECODER, bytes));
    // A model without an encoder can generate images but not continue one.
    let mut encoder = None;
    if folder.has(ENCODER) {
        let fresh = Encoder::new(&config.dvae, &device);
        let bytes = folder.read_weights(ENCODER, &fresh)?;
        encoder = Some(ImageEncoder::new(folder.load_from(ENCODER, fresh, &bytes)?));
        files.push((ENCODER, bytes));
    }
    let mut files: Vec<(ModelFile, Bytes)> =
        files.into_iter().map(|(name, bytes)| served(name, bytes)).collect();
    let (prior, prior_hash) = folder.prior_and_sha256(&device, dtype)?;
    let clip = if scores { Some(folder.clip(&device)?) } else { None };

    let hashes = files.iter().map(|(file, _)| (file.name.as_str(), file.sha256.as_str()));
    let hash = ModelManifest::hash_files(hashes.chain([(PRIOR, prior_hash.as_str())]));
    if std::fs::metadata(folder.file(PRIOR)).is_ok_and(|file| file.len() <= LARGEST_PRIOR_FOR_BROWSERS) {
        let prior = served(PRIOR, folder.read(PRIOR)?);
        // Unless the folder has just changed, which the next start notices.
        files.extend(Some(prior).filter(|(file, _)| file.sha256 == prior_hash));
    }
    for name in [VOCABULARY, MODEL_CARD].into_iter().filter(|name| folder.has(name)) {
        files.push(served(name, folder.read(name)?));
    }
    let manifest = ModelManifest {
        name: config.name.clone(),
        hash,
        geometry: config.geometry(),
        prior_parameters: prior.num_params() as u64,
        scores,
        max_rows,
        files: files.iter().map(|(file, _)| file.clone()).collect(),
        examples: config.examples.clone(),
        license: config.license.clone(),
    };
    let grid = manifest.geometry.grid;
    let sampler = ModelSampler { batch: sample::batch(prior, config), decoder, encoder, grid, clip };
    let contents = files.into_iter().map(|(_, bytes)| bytes).collect();
    Ok(Loaded { model: ServedModel { manifest, tokenizer, contents }, sampler: Box::new(sampler) })
}

/// A file as it is served. Its URL changes with its content, so that browsers may cache it indefinitely.
fn served(name: &str, bytes: Vec<u8>) -> (ModelFile, Bytes) {
    let sha256 = sha256_hex(&bytes);
    let url = format!("/v1/model/files/{name}?sha256={sha256}");
    (ModelFile { name: name.to_owned(), url, bytes: bytes.len() as u64, sha256 }, bytes.into())
}
