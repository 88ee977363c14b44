//! Types that the page, the server and the trainer share: the wire format and the tokenizer.
//!
//! Tokens ([`TextToken`], [`ImageToken`]), the description of a model ([`ModelManifest`], [`Geometry`]), requests
//! ([`GenerationRequest`]), events ([`GenerationEvent`]), errors ([`ApiError`]), BPE ([`Tokenizer`]: the library `tokenizers` natively,
//! [`BrowserTokenizer`] in the browser), the messages between the page and its workers ([`DecoderCommand`], [`DecoderReport`],
//! [`PriorCommand`], [`PriorReport`], [`WorkerReport`]), the metadata in generated PNGs ([`ImageMetadata`]), and the choice among samples
//! ([`best_first`]).
//!
//! Architecture invariant: this crate builds for wasm32 and does not depend on Burn, tokio or Leptos.

mod address;
mod browser_tokenizer;
mod caption;
mod choice;
mod decoder;
mod encoding;
mod error;
mod event;
mod explain;
pub mod files;
mod geometry;
mod hex;
mod letters;
mod manifest;
mod png;
mod prior;
mod request;
mod token;
#[cfg(not(target_arch = "wasm32"))]
mod tokenizer;
mod vocabulary;
mod worker;

pub use address::address;
#[cfg(target_arch = "wasm32")]
pub use browser_tokenizer::BrowserTokenizer as Tokenizer;
#[cfg(not(target_arch = "wasm32"))]
pub use browser_tokenizer::BrowserTokenizer;
pub use caption::{clean_caption, is_blank_caption};
pub use choice::{NEAR_TIE, best_first};
pub use decoder::{DecoderCommand, DecoderDevice, DecoderReport, DeviceChoice};
pub use encoding::{Encoding, TokenizerError};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{EventKind, GenerationEvent, GenerationState, GenerationStatus};
pub use explain::{Attention, AttentionPattern, TokenChoice, TokenChoices, TokenStep};
pub use geometry::Geometry;
pub use hex::{sha256_hex, to_hex};
pub use manifest::{ModelFile, ModelManifest};
pub use png::{ImageMetadata, ModelIdentity, PngError, SampleMetadata, read_metadata, write_metadata};
pub use prior::{PriorCommand, PriorReport};
pub use request::{
    GenerationCreated, GenerationRequest, MAX_BEST_OF, MAX_SAMPLES, RequestError, SamplingSettings, Seed,
    check_best_of, check_ids, check_prefix, check_text,
};
pub use token::{ImageToken, TextToken};
#[cfg(not(target_arch = "wasm32"))]
pub use tokenizer::Tokenizer;
pub use vocabulary::Vocabulary;
pub use worker::{WorkerFailure, WorkerPart, WorkerProgram, WorkerReport};
