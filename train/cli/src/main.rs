//! `dalle`: from packages of drawings to a model folder, and from a caption to a picture.

use std::io;
use std::process::ExitCode;

mod bench;
mod commands;
mod curve;
mod png;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use dalle_data::say;

/// What a shell reports of a program that a closed pipe ended: 128 and the number of SIGPIPE.
const CLOSED_PIPE: u8 = 128 + 13;

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
    /// Train the dVAE (stage 1), encode and decode pictures.
    Dvae(commands::dvae::Args),
    /// Train the prior (stage 2).
    Prior(commands::prior::Args),
    /// Train the contrastive model, which chooses among samples.
    Clip(commands::clip::Args),
    /// Draw a caption.
    Sample(commands::sample::Args),
    /// Write captions, from nothing or from a beginning.
    Caption(commands::caption::Args),
    /// Take over a model that others released.
    Import(commands::import::Args),
    /// Measure a model.
    Eval(commands::eval::Args),
    /// Say what a model costs in memory and arithmetic, and what fits on a device.
    Plan(commands::plan::Args),
    /// Time sampling, decoding and training with random weights.
    Bench(commands::bench::Args),
}

fn main() -> ExitCode {
    let matches = with_negative_numbers(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Data(args) => commands::data::run(args),
        Command::Tokenizer(args) => commands::tokenizer::run(args),
        Command::Dvae(args) => commands::dvae::run(args),
        Command::Prior(args) => commands::prior::run(args),
        Command::Clip(args) => commands::clip::run(args),
        Command::Sample(args) => commands::sample::run(&args),
        Command::Caption(args) => commands::caption::run(&args),
        Command::Import(args) => commands::import::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Bench(args) => commands::bench::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if nobody_reads(&error) => ExitCode::from(CLOSED_PIPE),
        Err(error) => {
            say(format_args!("dalle: {}", sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The command with options that take `-1` for a number, out of range as it may be, and not for another option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|option| match option.get_action().takes_values() {
            true => option.allow_negative_numbers(true),
            false => option,
        })
        .mut_subcommands(with_negative_numbers)
}

/// An error and its causes, each once: the messages of some repeat those of their causes.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |sentence, cause| match sentence.as_str() {
        "" => cause,
        said if said.contains(&cause) => sentence,
        said => format!("{said}: {cause}"),
    })
}

/// Whether it failed because who read its output has read enough, as `head` does.
fn nobody_reads(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(closed)
}
