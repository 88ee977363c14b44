//! WebDataset shards: plain tar files in which the files of one record share a key and stand together.

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{Entry, Shard};
pub(crate) use read::{check_png, decode_png};
pub use write::ShardWriter;

/// A shard as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name.
    pub name: String,
    /// Records in it.
    pub records: usize,
    /// Records of the training split; missing in datasets of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A name that WebDataset accepts as a key: lower-case ASCII letters, digits, `-` and `_`; 1 to 80 characters. (A dot would
/// end the key, a slash make a folder; tar's plain header has room for 100 bytes.)
pub fn sanitise_key(name: &str) -> String {
    let mut key: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' })
        .take(MAX_KEY)
        .collect();
    if key.is_empty() {
        key.push('_');
    }
    key
}

const MAX_KEY: usize = 80;
