//! End-to-end tests: the real server, the page in Chromium, and the command `dalle` to compare with.
//!
//! Each file tests one property; [`fixture`] holds what they share. Each test starts its own server and browser, so they run in any
//! order and in parallel. A wait that times out leaves a screenshot and prints its path.

mod access;
mod busy;
#[path = "../../../shared/tests/captions/mod.rs"]
mod captions;
mod fixture;
mod generating;
mod hosting;
mod keyboard;
mod layout;
mod reloading;
mod reranking;
mod restarting;
mod starting;
mod stopping;
mod streaming;
mod tokenizing;
mod webgpu;
