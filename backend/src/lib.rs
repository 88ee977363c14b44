//! `dalle-server`: a caption's ids go in, image tokens come out as they are sampled.
//!
//! ```text
//! api ── admission ──▶ queue ──▶ engine (one thread, the device) ──▶ jobs' logs ──▶ api (server-sent events)
//! ```
//!
//! [`serve`] runs the whole; [`Config`] is its command line; [`open_model`] and [`load_model`] read the model that it serves. Anything that implements
//! [`Sampler`] can be served.

mod admission;
mod api;
mod config;
mod connections;
mod engine;
mod error_response;
mod jobs;
mod lifecycle;
mod loading;
mod queue;
mod served;
mod server;
pub mod shutdown;
mod telemetry;

pub use config::Config;
pub use engine::{Loaded, ModelSampler, Sampler};
pub use loading::{load_model, open_model};
pub use served::ServedModel;
pub use server::{Options, ServerError, serve};
