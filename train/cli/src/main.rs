//! The command `dalle`: datasets, training, sampling and evaluation. See `dalle --help`.

use std::io;
use std::process::ExitCode;

mod bench;
mod bench_ranks;
mod commands;
mod curve;
mod png;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use dalle_data::log_line;

/// The exit status that shells report for a program ended by SIGPIPE: 128 plus the signal's number.
const CLOSED_PIPE: u8 = 128 + 13;

/// DALL·E ("Zero-Shot Text-to-Image Generation"): datasets, training, sampling and evaluation.
#[derive(Parser)]
#[command(name = "dalle", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build a dataset, or inspect one.
    Data(commands::data::Args),
    /// Train the caption tokenizer.
    Tokenizer(commands::tokenizer::Args),
    /// Train the dVAE (stage 1), encode and decode images.
    Dvae(commands::dvae::Args),
    /// Train the prior (stage 2).
    Prior(commands::prior::Args),
    /// Train CLIP, which reranks samples.
    Clip(commands::clip::Args),
    /// Train a copy of a model further on your own pictures.
    Finetune(commands::finetune::Args),
    /// Write the weights of a training run's checkpoint as a model folder.
    Export(commands::export::Args),
    /// Sample images from a caption.
    Sample(commands::sample::Args),
    /// Print how a generated image was generated.
    Info(commands::info::Args),
    /// Sample captions, from scratch or from a prefix.
    Caption(commands::caption::Args),
    /// Import a released model.
    Import(commands::import::Args),
    /// Evaluate a model.
    Eval(commands::eval::Args),
    /// Plot metrics of several training runs into one image.
    Curve(commands::curve::Args),
    /// Print a model's parameters, FLOPs and memory, and whether it fits a device.
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
        Command::Finetune(args) => commands::finetune::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Sample(args) => commands::sample::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Caption(args) => commands::caption::run(&args),
        Command::Import(args) => commands::import::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Curve(args) => commands::curve::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Bench(args) => commands::bench::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(CLOSED_PIPE),
        Err(error) if error.is::<commands::ShownByFirst>() => ExitCode::FAILURE,
        Err(error) => {
            log_line(format_args!("dalle: {}", message(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Makes options accept `-1` as a value, so that the error says that it is out of range instead of calling it an unknown option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|option| match option.get_action().takes_values() {
            true => option.allow_negative_numbers(true),
            false => option,
        })
        .mut_subcommands(with_negative_numbers)
}

/// An error with its causes. A cause that the message already contains is left out.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| match message.as_str() {
        "" => cause,
        text if text.contains(&cause) => message,
        text => format!("{text}: {cause}"),
    })
}

/// Whether the reader of stdout has closed the pipe, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(closed)
}
