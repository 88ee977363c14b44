//! End-to-end tests: the real server and the page in Chromium, compared with the command `dalle`.
//!
//! Each file tests one area; [`fixture`] has shared code. Each test starts its own server and browser, so tests run in any order and
//! in parallel. A wait that times out saves a screenshot and prints its path.

mod access;
mod attention;
mod busy;
#[path = "../../../shared/tests/captions/mod.rs"]
mod captions;
mod explaining;
mod fixture;
mod generating;
mod hosting;
mod keeping;
mod keyboard;
mod layout;
mod reloading;
mod reranking;
mod restarting;
mod serverless;
mod starting;
mod stopping;
mod streaming;
mod tokenizing;
mod updating;
mod webgpu;
