//! The server over real HTTP, with a sampler that is quick, slow or broken as the test needs.

mod cancelling;
mod images;
mod interface;
mod lifecycle;
mod page;
mod sampler;
mod server;
mod sse;
mod streaming;
