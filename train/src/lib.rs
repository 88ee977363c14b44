//! Everything behind the `dalle` command: data, tokenizer, training, sampling and evaluation.
//!
//! The binary only parses arguments; each subcommand is one file of [`commands`] and calls one part of this library.

pub mod augment;
pub mod bench;
pub mod bpe_dropout;
pub mod checkpoint;
pub mod clip_training;
pub mod commands;
pub mod curve;
pub mod data;
pub mod dvae_training;
pub mod dvae_watch;
pub mod evaluation;
pub mod import;
pub mod model_folder;
pub mod optimizer;
pub mod prior_training;
pub mod reranking;
pub mod sampling;
pub mod say;
pub mod schedule;
pub mod tokenizer_train;
pub mod tokens;
pub mod training;
