//! `dalle-site MODEL FOLDER`: copies the files of a model that a browser needs into a new folder, with a `manifest.json` that
//! describes them. `scripts/build-site --with-model` calls it.
//!
//! A file's name contains the beginning of its hash, so that a host may let browsers cache it permanently. The manifest is what a
//! server answers to `GET /v1/model`, with addresses relative to the folder, and without CLIP, which needs a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use dalle_files::config::ModelConfig;
use dalle_files::tensors::{InMemory, TensorSource};
use dalle_shared::files::{CONFIG, DECODER, ENCODER, MODEL_CARD, PRIOR, TOKENIZER, VOCABULARY};
use dalle_shared::{MAX_SAMPLES, ModelFile, ModelManifest, Tokenizer, sha256_hex};

/// Name of the manifest in the new folder.
const MANIFEST: &str = "manifest.json";
/// Digits of the hash in a file's name.
const DIGITS: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, folder] = arguments.as_slice() else {
        eprintln!("usage: dalle-site MODEL FOLDER");
        return ExitCode::from(2);
    };
    match copy(model, folder) {
        Ok(manifest) => {
            let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
            println!("{}: {} files, {} kB", manifest.name, manifest.files.len(), bytes / 1000);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Copies the model into a folder that does not exist yet.
fn copy(model: &Path, folder: &Path) -> Result<ModelManifest> {
    ensure!(!folder.exists(), "{} exists; choose another folder", folder.display());
    let mut files = Vec::new();
    for name in [CONFIG, TOKENIZER, DECODER, PRIOR, ENCODER, VOCABULARY, MODEL_CARD] {
        let path = model.join(name);
        match fs::read(&path) {
            Ok(bytes) => files.push((name, bytes)),
            // A model without an encoder can generate images but not continue one.
            Err(error)
                if [ENCODER, VOCABULARY, MODEL_CARD].contains(&name)
                    && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    let manifest = describe(&files).with_context(|| format!("{} is not a model", model.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    for ((_, bytes), file) in files.iter().zip(&manifest.files) {
        write(&file.url, bytes)?;
    }
    write(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(manifest)
}

/// The manifest of a model's files, which are checked as far as possible without its networks.
fn describe(files: &[(&str, Vec<u8>)]) -> Result<ModelManifest> {
    let content = |wanted: &str| {
        let found = files.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, bytes)| bytes.as_slice()).with_context(|| format!("no {wanted}"))
    };
    let config: ModelConfig = serde_json::from_slice(content(CONFIG)?).context(CONFIG)?;
    config.validate().context(CONFIG)?;
    Tokenizer::from_json(content(TOKENIZER)?).context(TOKENIZER)?;
    let parameters = parameters(content(PRIOR)?).context(PRIOR)?;
    for name in [DECODER, ENCODER] {
        if let Ok(bytes) = content(name) {
            self::parameters(bytes).context(name)?;
        }
    }
    let described: Vec<ModelFile> = files.iter().map(|(name, bytes)| file(name, bytes)).collect();
    let hashed = described.iter().filter(|file| ![VOCABULARY, MODEL_CARD].contains(&file.name.as_str()));
    let hashes = hashed.map(|file| (file.name.as_str(), file.sha256.as_str()));
    Ok(ModelManifest {
        name: config.name.clone(),
        hash: ModelManifest::hash_files(hashes),
        geometry: config.geometry(),
        prior_parameters: parameters,
        scores: false,
        max_rows: MAX_SAMPLES,
        files: described.clone(),
        examples: config.examples,
        license: config.license,
    })
}

/// Number of values in a safetensors file.
fn parameters(bytes: &[u8]) -> Result<u64> {
    let file = InMemory::new(bytes)?;
    let tensors = file.metadata().tensors();
    if tensors.is_empty() {
        bail!("it has no tensors");
    }
    Ok(tensors.values().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum())
}

fn file(name: &str, bytes: &[u8]) -> ModelFile {
    let sha256 = sha256_hex(bytes);
    let (stem, extension) = name.split_once('.').unwrap_or((name, "bin"));
    let url = format!("{stem}-{}.{extension}", &sha256[..DIGITS]);
    ModelFile { name: name.to_owned(), url, bytes: bytes.len() as u64, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/drawings-128")
    }

    #[test]
    fn the_copy_of_a_model_has_its_files_under_names_with_their_hash() {
        let folder = tempfile::TempDir::new().unwrap();
        let target = folder.path().join("model");
        let manifest = copy(&shipped(), &target).unwrap();
        let written: ModelManifest =
            serde_json::from_slice(&fs::read(target.join(MANIFEST)).unwrap()).unwrap();
        assert_eq!(written, manifest);
        assert_eq!(manifest.geometry.grid, 16);
        assert!(manifest.file(VOCABULARY).is_some() && manifest.file(MODEL_CARD).is_some());
        for file in &manifest.files {
            let bytes = fs::read(target.join(&file.url)).unwrap();
            assert_eq!((sha256_hex(&bytes), bytes.len() as u64), (file.sha256.clone(), file.bytes));
            assert_eq!(bytes, fs::read(shipped().join(&file.name)).unwrap());
        }
        assert!(copy(&shipped(), &target).unwrap_err().to_string().contains("exists"));
    }

    #[test]
    fn a_folder_that_is_no_model_leaves_nothing_behind() {
        let folder = tempfile::TempDir::new().unwrap();
        let (model, target) = (folder.path().join("empty"), folder.path().join("site"));
        fs::create_dir(&model).unwrap();
        let error = format!("{:#}", copy(&model, &target).unwrap_err());
        assert!(error.contains("config.json"), "{error}");
        fs::write(model.join(CONFIG), "{}").unwrap();
        for name in [TOKENIZER, DECODER, PRIOR] {
            fs::write(model.join(name), "x").unwrap();
        }
        assert!(copy(&model, &target).is_err());
        assert!(!target.exists());
    }
}
