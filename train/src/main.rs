//! `dalle`: from packages of drawings to a model folder, and from a caption to a picture.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dalle_train::commands;

/// Text to image, after "Zero-Shot Text-to-Image Generation": data, training, sampling and evaluation.
#[derive(Parser)]
#[command(name = "dalle", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build a training set, or look at one.
    Data(commands::data::Args),
    /// Train the caption tokenizer.
    Tokenizer(commands::tokenizer::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Data(args) => commands::data::run(args),
        Command::Tokenizer(args) => commands::tokenizer::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dalle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
