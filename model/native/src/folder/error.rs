//! Errors of model folders.

use std::io;
use std::path::PathBuf;

use dalle_model::config::ConfigError;
use dalle_model::weights::WeightsError;
use dalle_shared::TokenizerError;
use dalle_shared::files::{CLIP_CONFIG, TOKENIZER};

use crate::publish::PublishError;

/// Why a model folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("cannot read the {kind} {}: {cause}; {help}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kind of file.
        kind: &'static str,
        /// The system's reason.
        cause: io::Error,
        /// What was expected, or the command that creates the file.
        help: &'static str,
    },
    /// A pipe, a device or a folder instead of a file. Reading it could block forever.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A file larger than the limit of its kind.
    #[error("{} is too large for a {kind}: expected JSON of at most {} MiB", path.display(), limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it should be.
        kind: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A configuration is not the expected JSON.
    #[error("{} is not a {kind}: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        kind: &'static str,
        /// Where parsing stopped.
        cause: serde_json::Error,
    },
    /// A configuration has a field out of range.
    #[error("{}: {cause}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        cause: ConfigError,
    },
    /// `clip.json` and `clip.safetensors` belong together, and one of them is missing.
    #[error(
        "{missing} is missing, but {} exists: CLIP needs both; create them with `dalle clip train`, or remove the file to generate \
        images without reranking", existing.display()
    )]
    HalfClip {
        /// The missing file.
        missing: &'static str,
        /// The existing file.
        existing: PathBuf,
    },
    /// CLIP was trained with another tokenizer than the prior.
    #[error(
        "{}: this CLIP was trained with another {TOKENIZER} than the one beside it; train it again with `dalle clip train`",
        .0.join(CLIP_CONFIG).display()
    )]
    ClipTokenizer(PathBuf),
    /// The tokenizer cannot be used.
    #[error("{}: {cause}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The reason.
        cause: TokenizerError,
    },
    /// The tokenizer has more ids than the configuration.
    #[error(
        "{} has {got} ids, but the configuration allows {expected} (`text_vocab`): they belong to different models; \
         `dalle tokenizer train --vocab {expected}` trains one that fits", path.display()
    )]
    Vocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// `text_vocab`.
        expected: usize,
        /// Number of ids of the tokenizer.
        got: usize,
    },
    /// Weights do not fit the configuration, or are damaged.
    #[error("{}: {cause}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: WeightsError,
    },
    /// A file that is often stored in place of weights by a download that went wrong.
    #[error("{} {what}", path.display())]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The folder's prior was trained on the tokens of another encoder.
    #[error(
        "{} contains a prior that was trained on the codebook of another encoder; run the same command with another --out folder \
        to write the trained dVAE", .0.display()
    )]
    OtherCodebook(PathBuf),
    /// The folder's prior does not state its encoder, which is missing.
    #[error(
        "{} contains a prior without an encoder, and the prior does not state the encoder that it was trained on; write the dVAE into \
        another --out folder, and then the prior", .0.display()
    )]
    UnknownCodebook(PathBuf),
    /// The folder cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
