//! Types that the page, the server and the trainer share: the wire format and the tokenizer.
//!
//! Tokens ([`TextToken`], [`ImageToken`]), the description of a model ([`ModelManifest`], [`Geometry`]), requests
//! ([`GenerationRequest`]), events ([`GenerationEvent`]), errors ([`ApiError`]), BPE ([`Tokenizer`]), and the messages between
//! the page and its workers ([`DecoderCommand`], [`DecoderReport`], [`PriorCommand`], [`PriorReport`], [`WorkerReport`]).
//!
//! Architecture invariant: this crate builds for wasm32 and does not depend on Burn, tokio or Leptos.

mod address;
mod decoder;
mod error;
mod event;
mod explain;
pub mod files;
mod geometry;
mod hex;
mod manifest;
mod prior;
mod request;
mod token;
mod tokenizer;
mod worker;

pub use address::address;
pub use decoder::{DecoderCommand, DecoderDevice, DecoderReport, DeviceChoice};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{EventKind, GenerationEvent, GenerationState, GenerationStatus};
pub use explain::{Attention, AttentionPattern, TokenChoice, TokenChoices, TokenStep};
pub use geometry::Geometry;
pub use hex::{sha256_hex, to_hex};
pub use manifest::{ModelFile, ModelManifest};
pub use prior::{PriorCommand, PriorReport};
pub use request::{
    GenerationCreated, GenerationRequest, MAX_BEST_OF, MAX_SAMPLES, RequestError, SamplingSettings, Seed,
    check_best_of, check_ids, check_prefix, check_text,
};
pub use token::{ImageToken, TextToken};
pub use tokenizer::{Encoding, Tokenizer, TokenizerError};
pub use worker::{WorkerFailure, WorkerPart, WorkerProgram, WorkerReport};
