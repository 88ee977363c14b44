//! `dalle-server`: receives the ids of a caption, and streams image tokens as they are sampled.
//!
//! ```text
//! api ── admission ──▶ queue ──▶ engine (one thread, the device) ──▶ logs of jobs ──▶ api (server-sent events)
//! ```
//!
//! [`serve`] runs a server with [`Options`]. [`Config`] is the command line. [`open_model`] and [`load_model`] read a model, but any
//! [`Sampler`] can be served.

mod admission;
mod api;
mod config;
mod connections;
mod engine;
mod error_response;
mod idempotency;
mod jobs;
mod lifecycle;
mod loading;
mod options;
mod queue;
mod retry;
mod served;
mod server;
pub mod shutdown;
mod stall;
mod telemetry;

pub use config::Config;
pub use engine::{EncodeError, Loaded, ModelSampler, Sampler};
pub use loading::{load_model, open_model};
pub use options::Options;
pub use served::ServedModel;
pub use server::{Listeners, ServerError, serve};
