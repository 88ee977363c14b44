//! A safetensors file that is read one tensor at a time.

use std::borrow::Cow;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

use dalle_model::weights::{TensorSource, WeightsError};
use dalle_shared::to_hex;
use safetensors::SafeTensorError;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

/// Maximum size of a header in bytes, the limit of the safetensors crate.
const HEADER_LIMIT: u64 = 100_000_000;

/// An open file. It is hashed and loaded through one handle, so both see the same file even if it is replaced in between.
pub(super) struct WeightsFile {
    file: File,
    metadata: Metadata,
    /// Offset of the tensors.
    start: u64,
}

impl WeightsFile {
    /// Reads the header: its length in eight bytes, then JSON.
    ///
    /// # Errors
    /// The file cannot be read, or is not a whole safetensors file.
    pub fn new(mut file: File) -> Result<Self, WeightsError> {
        let io = |error| WeightsError::Malformed(SafeTensorError::IoError(error));
        let length = file.metadata().map_err(io)?.len();
        let mut size = [0; size_of::<u64>()];
        file.read_exact(&mut size).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => SafeTensorError::HeaderTooSmall,
            _ => SafeTensorError::IoError(error),
        })?;
        let size = u64::from_le_bytes(size);
        if size > HEADER_LIMIT {
            return Err(SafeTensorError::HeaderTooLarge.into());
        }
        let start = size + size_of::<u64>() as u64;
        if start > length {
            return Err(SafeTensorError::InvalidHeaderLength.into());
        }
        let header = read(&mut file, size as usize).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
        if start + metadata.data_len() as u64 != length {
            return Err(SafeTensorError::MetadataIncompleteBuffer.into());
        }
        Ok(Self { file, metadata, start })
    }

    /// The text under `key` in the metadata of the header.
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The whole file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn content(&mut self) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(0))?;
        read(&mut self.file, self.start as usize + self.metadata.data_len())
    }

    /// SHA-256 of the whole file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sha256(&mut self) -> io::Result<String> {
        self.file.seek(SeekFrom::Start(0))?;
        sha256(&mut self.file)
    }
}

impl TensorSource for WeightsFile {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn read(&mut self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Box<dyn Error + Send + Sync>> {
        self.file.seek(SeekFrom::Start(self.start + range.start as u64))?;
        Ok(Cow::Owned(read(&mut self.file, range.len())?))
    }
}

/// The next `length` bytes.
fn read(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// SHA-256 of the rest of a file, read in chunks because it may be larger than memory.
pub(super) fn sha256(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(to_hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
