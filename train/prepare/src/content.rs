//! Where the bytes of a file lie: in a file of its own, or in a part of an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalle_native::image_file::{ImageFileError, read_regular_file};
use tempfile::NamedTempFile;

/// A file that holds others: an archive, or its unpacked copy.
#[derive(Debug)]
pub enum Archive {
    /// An archive that is not compressed.
    File(PathBuf),
    /// A temporary file, which is deleted with the last part of it.
    Temporary(NamedTempFile),
}

impl Archive {
    /// The file that is read.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Temporary(file) => file.path(),
        }
    }
}

/// Bytes that are read when they are needed.
#[derive(Clone, Debug)]
pub enum Content {
    /// A whole file.
    File(PathBuf),
    /// A part of an archive.
    Part {
        /// The archive.
        archive: Arc<Archive>,
        /// Where the part begins.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
}

impl Content {
    /// Its bytes, at most `limit`.
    ///
    /// # Errors
    /// It is no regular file, larger, or cannot be read.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, ImageFileError> {
        match self {
            Self::File(path) => read_regular_file(path, limit),
            Self::Part { length, .. } if *length > limit => {
                Err(ImageFileError::TooManyBytes { bytes: *length, limit })
            }
            Self::Part { archive, offset, length } => {
                let mut file = File::open(archive.path())?;
                file.seek(SeekFrom::Start(*offset))?;
                let mut bytes = Vec::new();
                file.take(*length).read_to_end(&mut bytes)?;
                match bytes.len() as u64 == *length {
                    true => Ok(bytes),
                    false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                }
            }
        }
    }

    /// How many bytes it has; 0 if that cannot be known.
    pub fn length(&self) -> u64 {
        match self {
            Self::File(path) => path.metadata().map_or(0, |metadata| metadata.len()),
            Self::Part { length, .. } => *length,
        }
    }
}
