//! `dalle-server` as a process, with a real (small, random) model from a folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod isolation;
mod logging;
mod sampling;
mod starting;
mod stopping;
