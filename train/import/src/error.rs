//! Why a checkpoint is refused.

use super::pickle::PickleError;

/// Why a checkpoint is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file is in neither format.
    #[error("expected a PyTorch file (torch.save), safetensors or pickled NumPy arrays, got none of them")]
    Format,
    /// The zip archive is damaged.
    #[error("the PyTorch file is damaged or truncated ({0}); download or copy it again")]
    Zip(#[from] zip::result::ZipError),
    /// The file is truncated.
    #[error("the PyTorch file is damaged or truncated ({0}); download or copy it again")]
    Read(#[from] std::io::Error),
    /// The safetensors file is damaged.
    #[error("the safetensors file is damaged or truncated ({0}); download or copy it again")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The pickle is refused.
    #[error("the file's pickle is refused: {0}")]
    Pickle(#[from] PickleError),
    /// A part of the file has the wrong content.
    #[error("{place}: expected {expected}")]
    Content {
        /// The part.
        place: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A part of the file is too large.
    #[error("{what} is larger than {limit}, more than any checkpoint")]
    TooLarge {
        /// The part.
        what: String,
        /// The limit.
        limit: u64,
    },
}

/// The error of a part of the file that has the wrong content.
pub fn content(place: &str, expected: &'static str) -> CheckpointError {
    CheckpointError::Content { place: place.to_owned(), expected }
}
