//! The training that a weights file is from, as the metadata of its header states it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read::Kind;
use super::weights_file::WeightsFile;

/// The training that a weights file is from. Files of older versions do not state it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the settings of the run.
    pub run: String,
    /// For a prior, SHA-256 of the encoder whose tokens it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

impl Origin {
    /// Its key in the metadata of a safetensors file. The value is JSON.
    pub const KEY: &'static str = "training";

    /// The origin of the weights file `name` in `folder`. None if the file does not state it or cannot be read.
    pub fn read(folder: &Path, name: &str) -> Option<Self> {
        let file = Kind::of(name).open(&folder.join(name)).ok()?;
        serde_json::from_str(WeightsFile::new(file).ok()?.metadata_text(Self::KEY)?).ok()
    }
}
