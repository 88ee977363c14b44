//! The words both sides of the wire speak, and nothing else.
//!
//! The page, the server and the trainer agree here on tokens ([`TextToken`], [`ImageToken`]), on what a model is
//! ([`ModelManifest`], [`Geometry`]), on what may be asked of it ([`GenerationRequest`]), on what comes back
//! ([`GenerationEvent`], [`ApiError`]) and on how a caption becomes ids ([`Tokenizer`]).
//!
//! Architecture invariant: this crate builds for wasm32 and knows no Burn, tokio or Leptos.

mod address;
mod decoder;
mod error;
mod event;
pub mod files;
mod geometry;
mod hex;
mod manifest;
mod request;
mod token;
mod tokenizer;

pub use address::address;
pub use decoder::{DecoderCommand, DecoderDevice, DecoderFailure, DecoderPart, DecoderReport, DeviceChoice};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{EventKind, GenerationEvent, GenerationState, GenerationStatus};
pub use geometry::Geometry;
pub use hex::{sha256_hex, to_hex};
pub use manifest::{ModelFile, ModelManifest};
pub use request::{
    GenerationCreated, GenerationRequest, MAX_BEST_OF, MAX_SAMPLES, RequestError, SamplingSettings, Seed,
    check_best_of, check_prefix, check_text,
};
pub use token::{ImageToken, TextToken};
pub use tokenizer::{Encoding, Tokenizer, TokenizerError};
