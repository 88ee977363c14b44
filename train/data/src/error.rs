//! Errors of building and reading datasets.

use std::path::{Path, PathBuf};

use dalle_native::publish::PublishError;

use crate::record::Split;
use crate::source::Problem;

/// Why data cannot be built or read. Messages say what was expected, what was received and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system returned an error.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, such as `reading`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file does not hold what it should.
    #[error("{} is not {expected}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// Where parsing stopped.
        source: serde_json::Error,
    },
    /// A package that a family needs is missing.
    #[error(
        "package `{package}` was not found in {}; unpack it there (`npm install {package}` in that folder, or \
         `npm pack {package}` and untar), or leave the family out with --families",
        folder.display()
    )]
    MissingPackage {
        /// Name on npm.
        package: &'static str,
        /// Where it was searched for.
        folder: PathBuf,
    },
    /// Two versions of one package.
    #[error(
        "package `{package}` was found twice, in {} and in {}; keep the version you want",
        first.display(), second.display()
    )]
    AmbiguousPackage {
        /// Name on npm.
        package: &'static str,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file inside a package has another shape than the code knows.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected and what was received.
        message: String,
    },
    /// An option's value is unknown or out of range.
    #[error("--{option}: {message}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was expected and what was received.
        message: String,
    },
    /// Nothing is left to train on.
    #[error("no image is left to store: {reasons}")]
    Nothing {
        /// How many images were left out for which reason.
        reasons: String,
        /// Those that were selected but cannot be used.
        problems: Vec<Problem>,
    },
    /// The dataset folder cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A dataset folder is damaged.
    #[error(
        "{} is damaged: {message}; build the dataset again or copy it again",
        path.display()
    )]
    Damaged {
        /// The file at fault.
        path: PathBuf,
        /// What was expected and what was received.
        message: String,
    },
    /// The folder holds no manifest.
    #[error(
        "{folder} is not a dataset: it has no manifest.json; `dalle data build --images {folder} --out DATASET` makes one of images, WebDataset \
         shards or a parquet file, and `--packages` of packages of drawings",
        folder = .0.display()
    )]
    NotADataset(PathBuf),
    /// A dataset has no examples of the split that is read.
    #[error("{} holds no examples of the split `{split}`; build it with another --val", folder.display())]
    EmptySplit {
        /// The dataset.
        folder: PathBuf,
        /// The split.
        split: Split,
    },
    /// Datasets that are mixed have different validation splits.
    #[error(
        "{} was built with --val {} and {} with --val {}: a concept could be trained on in one of them and held out in the other; \
         build them with the same --val",
        folders[0].display(), shares[0], folders[1].display(), shares[1]
    )]
    OtherSplit {
        /// The two datasets. The first has a validation split.
        folders: [PathBuf; 2],
        /// The share of concepts that each holds out.
        shares: [f64; 2],
    },
    /// Some datasets of a mixture have a weight and others do not.
    #[error(
        "--data: {} has a weight and {} has none; give a weight for all datasets or for none",
        with.display(), without.display()
    )]
    PartlyWeighted {
        /// A dataset with a weight.
        with: PathBuf,
        /// A dataset without.
        without: PathBuf,
    },
    /// Images are needed.
    #[error("{} holds tokens, expected images; only `dalle prior train` reads tokens", .0.display())]
    TokensNotImages(PathBuf),
    /// Tokens are needed.
    #[error("{} holds images, expected tokens; `dalle dvae encode --data` makes them", .0.display())]
    ImagesNotTokens(PathBuf),
    /// Nothing more comes from a stream of examples, because of an error that was reported before.
    #[error("the data ended after an error")]
    StreamEnded,
    /// The caption tokenizer could not be trained.
    #[error("the tokenizer could not be trained: {0}")]
    Tokenizer(String),
}

impl DataError {
    /// For `map_err`: an I/O error that knows what was being done to which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// For `map_err`: a JSON error that knows the file and what it should hold.
    pub fn json(expected: &'static str, path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, expected, source }
    }

    /// A file of another shape than expected.
    pub fn malformed(path: &Path, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), message: message.into() }
    }

    /// A damaged file of a dataset.
    pub fn damaged(path: &Path, message: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), message: message.into() }
    }
}

/// Reads and parses a JSON file.
///
/// # Errors
/// It cannot be read, or does not hold what is `expected`.
pub fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    expected: &'static str,
) -> Result<T, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::io("reading", path))?;
    serde_json::from_slice(&bytes).map_err(DataError::json(expected, path))
}
