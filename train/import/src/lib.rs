//! Models that others released, as this project's model folders. Files from elsewhere are data: nothing in them is executed.

mod array;
mod checkpoint;
mod openai_dvae;
mod pickle;
mod torch;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

pub use array::Array;
pub use checkpoint::{CheckpointError, read as read_checkpoint};
pub use openai_dvae::import as import_openai_dvae;
pub use pickle::PickleError;

/// Largest file of weights that is read: the released dVAE's encoder has 0.2 GB.
const MAX_FILE: u64 = 4 << 30;

/// The content of a file of weights.
///
/// # Errors
/// It cannot be read, or is larger than any.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE,
        "{} has more than the {MAX_FILE} bytes of any weights that are read",
        path.display()
    );
    Ok(bytes)
}
