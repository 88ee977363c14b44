//! The server over real HTTP, with a test sampler that can be fast, slow or broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancelling;
mod connections;
mod editing;
mod hosts;
mod images;
mod interface;
mod lifecycle;
mod page;
mod repeating;
mod sampler;
mod server;
mod sse;
mod stalling;
mod streaming;
