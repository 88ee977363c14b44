//! What a client must know of a model before it can ask for pictures (answer to `GET /v1/model`).

use serde::{Deserialize, Serialize};

use crate::{Geometry, sha256_hex};

/// A model as served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Name from the model's `config.json`.
    pub name: String,
    /// Identity of the whole folder: see [`ModelManifest::hash_files`]. Travels with every request.
    pub hash: String,
    /// Its sizes.
    pub geometry: Geometry,
    /// Parameters of the prior.
    pub prior_parameters: u64,
    /// Whether it has a contrastive model, so that `best_of` can be asked for.
    #[serde(default)]
    pub scores: bool,
    /// Most pictures that the server draws for one request; guidance counts each of them twice.
    #[serde(default = "usual_rows")]
    pub max_rows: usize,
    /// Files a browser needs: `config.json`, `tokenizer.json`, `decoder.safetensors`, and where the model has one
    /// `encoder.safetensors`.
    pub files: Vec<ModelFile>,
    /// Captions the model was trained on, to start from.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Licence line to show beside pictures.
    #[serde(default)]
    pub license: String,
}

fn usual_rows() -> usize {
    crate::MAX_BEST_OF
}

/// One downloadable file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// File name within the model folder.
    pub name: String,
    /// Address, relative to the backend's base address.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl ModelManifest {
    /// Identity of a model folder: SHA-256 over the lines `<sha256>  <name>\n` of all its files that change what it
    /// computes, sorted by name (the format of `sha256sum`).
    pub fn hash_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut lines: Vec<String> =
            files.into_iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
        lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
        sha256_hex(lines.concat().as_bytes())
    }

    /// The entry called `name`.
    pub fn file(&self, name: &str) -> Option<&ModelFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_hash_is_independent_of_order_and_changes_with_any_file() {
        let (a, b) = (sha256_hex(b"a"), sha256_hex(b"b"));
        let hash =
            ModelManifest::hash_files([("config.json", a.as_str()), ("model.safetensors", b.as_str())]);
        assert_eq!(
            hash,
            ModelManifest::hash_files([("model.safetensors", b.as_str()), ("config.json", a.as_str())])
        );
        assert_ne!(
            hash,
            ModelManifest::hash_files([("config.json", b.as_str()), ("model.safetensors", a.as_str())])
        );
    }
}
