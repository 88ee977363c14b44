//! Everything behind the `dalle` command: data, tokenizer, training, sampling and evaluation.
//!
//! The binary only parses arguments; each subcommand is one file of [`commands`] and calls one part of this library.

pub mod commands;
