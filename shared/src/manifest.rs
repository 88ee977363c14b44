//! Description of the served model: the response to `GET /v1/model`, and `manifest.json` of a website without a server.

use serde::{Deserialize, Serialize};

use crate::{Geometry, sha256_hex};

/// A model as served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Name from the model's `config.json`.
    pub name: String,
    /// Hash of the model folder, see [`ModelManifest::hash_files`]. Part of every request.
    pub hash: String,
    /// Sizes of the model's token stream and images.
    pub geometry: Geometry,
    /// Number of parameters of the prior.
    pub prior_parameters: u64,
    /// Whether the model has CLIP, so that requests may set `best_of`.
    #[serde(default)]
    pub scores: bool,
    /// Most images that the server samples for one request; with guidance each counts twice.
    #[serde(default = "default_max_rows")]
    pub max_rows: usize,
    /// Files that a browser needs: `config.json`, `tokenizer.json`, `decoder.safetensors`, `encoder.safetensors` if the model has an
    /// encoder, and `model.safetensors` if the prior is small enough to run in a browser.
    pub files: Vec<ModelFile>,
    /// Example captions from the training data.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Licence line to show beside images.
    #[serde(default)]
    pub license: String,
}

fn default_max_rows() -> usize {
    crate::MAX_BEST_OF
}

/// A downloadable file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// File name within the model folder.
    pub name: String,
    /// URL, relative to the base URL of the backend, or of the folder of a website without one.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl ModelManifest {
    /// Hash of a model folder: SHA-256 of the lines `<sha256>  <name>\n` of the files that its images depend on, sorted by name
    /// (the format of `sha256sum`).
    pub fn hash_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut lines: Vec<String> =
            files.into_iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
        lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
        sha256_hex(lines.concat().as_bytes())
    }

    /// The file called `name`.
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
