//! The server over real HTTP, with a sampler that is quick, slow or broken as the test needs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancelling;
mod connections;
mod hosts;
mod images;
mod interface;
mod lifecycle;
mod page;
mod sampler;
mod server;
mod sse;
mod stalling;
mod streaming;
