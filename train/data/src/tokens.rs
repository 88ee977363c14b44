//! Token datasets: shards that hold, in place of each image, the dVAE's tokens of several crops of it.
//!
//! `KEY.tokens` holds the crops one after the other, each `grid²` tokens in raster order as 16-bit little-endian numbers.
//! Tokens are indices into the codebook of one encoder, so the manifest contains the hash of that encoder.

use dalle_shared::ImageToken;
use serde::{Deserialize, Serialize};

/// Ending of the files.
pub const ENDING: &str = "tokens";

/// How the tokens of a dataset were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFormat {
    /// SHA-256 of the encoder's weights.
    pub encoder: String,
    /// Entries of its codebook.
    pub vocab: usize,
    /// Tokens in a row of a grid.
    pub grid: usize,
    /// Crops of each image.
    pub crops: usize,
    /// Seed of the crops.
    pub seed: u64,
    /// Hash of the dataset that held the images.
    pub data: String,
}

impl TokenFormat {
    /// The content of a `.tokens` file.
    pub fn encode<'a>(crops: impl IntoIterator<Item = &'a [ImageToken]>) -> Vec<u8> {
        crops.into_iter().flatten().flat_map(|token| token.0.to_le_bytes()).collect()
    }

    /// The tokens of one crop. The message continues "`cat.tokens` …".
    pub(crate) fn crop(&self, bytes: &[u8], crop: u64) -> Result<Vec<ImageToken>, String> {
        let length = self.grid.saturating_mul(self.grid).saturating_mul(2);
        let expected = self.crops.saturating_mul(length);
        if self.crops == 0 || bytes.len() != expected {
            return Err(format!("has {} bytes, expected {expected}", bytes.len()));
        }
        let start = (crop % self.crops as u64) as usize * length;
        let tokens: Vec<ImageToken> = bytes[start..start + length]
            .chunks_exact(2)
            .map(|pair| ImageToken(u16::from_le_bytes([pair[0], pair[1]])))
            .collect();
        match tokens.iter().find(|token| usize::from(token.0) >= self.vocab) {
            Some(token) => Err(format!("holds token {}, not below the codebook's {}", token.0, self.vocab)),
            None => Ok(tokens),
        }
    }
}
