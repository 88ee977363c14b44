//! Imports released models: reads PyTorch and safetensors checkpoints and pickled NumPy arrays, and converts OpenAI's dVAE.
//!
//! Files are treated as data: nothing in them is executed, and their size bounds the memory and time they can cost.

mod array;
mod checkpoint;
mod error;
mod family;
mod openai_dvae;
mod pickle;
mod torch;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dalle_model::weights::{FILE_START, wrong_file};

pub use array::Array;
pub use checkpoint::read as read_checkpoint;
pub use error::CheckpointError;
pub use openai_dvae::import as import_openai_dvae;
pub use pickle::PickleError;

/// Largest weights file that is read, in bytes. The released dVAE's encoder has 0.2 GB.
const MAX_FILE: u64 = 4 << 30;

/// Reads a weights file.
///
/// # Errors
/// The file cannot be read, is larger than 4 GiB, or is something that is often downloaded in its place.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE,
        "{} is larger than {MAX_FILE} bytes, the largest weights file that is read",
        path.display()
    );
    ensure!(!bytes.is_empty(), "{} is empty; download or copy it again", path.display());
    if let Some(what) = wrong_file(&bytes[..bytes.len().min(FILE_START)]) {
        bail!("{} {what}", path.display());
    }
    Ok(bytes)
}
