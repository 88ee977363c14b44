//! `dalle dvae`: train the dVAE, and use it on single pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use dalle_data::{Dataset, MANIFEST};
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::publish::write_file;
use dalle_train::progress::bar;
use dalle_train::tokens::{TokenGrid, decode_picture, read_picture};
use image::RgbImage;
use indicatif::ProgressIterator;
use serde::Serialize;

use super::{dvae_train, outputs, values};
use crate::png::write_png;

/// Arguments of `dalle dvae`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: DvaeCommand,
}

#[derive(Subcommand)]
enum DvaeCommand {
    /// Fit the dVAE to the pictures of a dataset (stage 1).
    Train(Box<dvae_train::Args>),
    /// Turn a picture into a tokens.json, or many into lines of JSON.
    Encode(EncodeArgs),
    /// Turn a tokens.json into a picture.
    Decode(DecodeArgs),
}

#[derive(clap::Args)]
struct EncodeArgs {
    /// A picture; or several; or a dataset folder.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The file to write: a tokens.json for one picture, otherwise a line of JSON for each, which names it.
    #[arg(long, value_parser = values::file)]
    out: PathBuf,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

#[derive(clap::Args)]
struct DecodeArgs {
    /// A tokens.json.
    tokens: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The picture to write (.png).
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle dvae`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        DvaeCommand::Train(args) => dvae_train::run(&args),
        DvaeCommand::Encode(args) => encode(&args),
        DvaeCommand::Decode(args) => decode(&args),
    }
}

/// A line of a file of many pictures' tokens.
#[derive(Serialize)]
struct NamedGrid<'a> {
    name: &'a str,
    #[serde(flatten)]
    grid: TokenGrid,
}

fn encode(args: &EncodeArgs) -> Result<()> {
    let inputs: Vec<&Path> = args.pictures.iter().map(PathBuf::as_path).collect();
    outputs::check(&inputs, &[("--out", Some(&args.out))])?;
    let folder = ModelFolder::open(&args.model)?;
    let encoder = folder.encoder(&args.device.open()?)?;
    let tokens = |picture: &RgbImage| TokenGrid::encode(&encoder, picture);
    let read = |path: &PathBuf| read_picture(path, folder.config.image_size);
    let pictures: Vec<(String, RgbImage)> = match args.pictures.as_slice() {
        [path] if path.join(MANIFEST).is_file() => {
            let examples = Dataset::open(path)?.examples;
            examples.into_iter().map(|example| (example.key, example.image)).collect()
        }
        [path] => return Ok(write_file(&args.out, &serde_json::to_vec(&tokens(&read(path)?)?)?)?),
        paths => {
            let named = paths.iter().map(|path| Ok((path.display().to_string(), read(path)?)));
            named.collect::<Result<_>>()?
        }
    };
    let mut lines = Vec::new();
    for (name, picture) in pictures.iter().progress_with(bar(pictures.len() as u64, "tokenizing pictures")) {
        serde_json::to_writer(&mut lines, &NamedGrid { name, grid: tokens(picture)? })?;
        lines.push(b'\n');
    }
    Ok(write_file(&args.out, &lines)?)
}

fn decode(args: &DecodeArgs) -> Result<()> {
    outputs::check(&[&args.tokens], &[("--out", Some(&args.out))])?;
    let folder = ModelFolder::open(&args.model)?;
    let TokenGrid { grid, tokens } = TokenGrid::read(&args.tokens, folder.config.dvae.vocab)?;
    let decoder = folder.decoder(&args.device.open()?)?;
    let picture = decode_picture(&decoder, &tokens, grid)?;
    write_png(&args.out, &picture)
}
