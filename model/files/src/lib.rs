//! What the files of a model hold, for programs with and without Burn: the configuration and tensors. No I/O.
//!
//! - [`config`]: one typed configuration for a model of any size
//! - [`tensors`]: safetensors files that must have exactly the tensors of a network
//! - [`wrong_file`]: what is sometimes downloaded in place of weights

pub mod config;
pub mod tensors;
mod wrong_file;

pub use wrong_file::{FILE_START, wrong_file};
