//! `dalle dvae`: train the dVAE, and encode and decode images.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Subcommand;
use dalle_data::{Entry, MANIFEST, Shards, check_apart};
use dalle_model::config::DOWNSAMPLING;
use dalle_model::dvae::ImageEncoder;
use dalle_model::footprint::Footprint;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::memory;
use dalle_native::publish::{NewFolder, write_file};
use dalle_shared::files::ENCODER;
use dalle_train::progress::bar;
use dalle_train::token_dataset::{self, CROPS};
use dalle_train::tokens::{TokenGrid, decode_image, read_image};
use image::RgbImage;
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
    /// Fit the dVAE to the images of a dataset (stage 1).
    Train(Box<dvae_train::Args>),
    /// Turn an image into a tokens.json, several into lines of JSON, or a dataset into shards of tokens for `dalle prior train`.
    Encode(EncodeArgs),
    /// Turn a tokens.json into an image.
    Decode(DecodeArgs),
}

#[derive(clap::Args)]
struct EncodeArgs {
    /// An image, several, or a dataset folder.
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    images: Vec<PathBuf>,
    /// Dataset folder to encode into token shards.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// What to write: a tokens.json of one image; a line of JSON, with its name, of each of several; with --data, a folder.
    #[arg(long)]
    out: PathBuf,
    /// Random crops of each image of the dataset: training reads another one in each epoch [default: 8].
    #[arg(long, requires = "data", value_parser = clap::value_parser!(u64).range(1..=1024))]
    crops: Option<u64>,
    /// Seed of the crops.
    #[arg(long, requires = "data", default_value_t = 0)]
    seed: u64,
    /// Replace `--out` if it is a dataset.
    #[arg(long, requires = "data")]
    overwrite: bool,
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
    /// The image to write (.png).
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle dvae`.
///
/// # Errors
/// An input cannot be read or the device cannot hold it, an output cannot be written, or the run fails.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        DvaeCommand::Train(args) => dvae_train::run(&args),
        DvaeCommand::Encode(args) => match &args.data {
            Some(data) => encode_dataset(&args, data),
            None => encode(&args),
        },
        DvaeCommand::Decode(args) => decode(&args),
    }
}

/// A line of a file of the tokens of several images.
#[derive(Serialize)]
struct NamedGrid<'a> {
    name: &'a str,
    #[serde(flatten)]
    grid: TokenGrid,
}

/// Encodes single images, each after the memory for it was checked.
struct FileEncoder {
    folder: ModelFolder,
    footprint: Footprint,
    device: DeviceName,
    encoder: ImageEncoder,
}

impl FileEncoder {
    fn open(args: &EncodeArgs) -> Result<Self> {
        let folder = ModelFolder::open(&args.model)?;
        let encoder = folder.encoder(&args.device.open()?)?;
        Ok(Self { footprint: Footprint::new(&folder.config), folder, device: args.device, encoder })
    }

    fn file(&self, path: &Path) -> Result<TokenGrid> {
        self.image(&path.display().to_string(), &read_image(path, self.folder.config.image_size)?)
    }

    fn image(&self, name: &str, image: &RgbImage) -> Result<TokenGrid> {
        let (width, height) = image.dimensions();
        let size = [height, width].map(|side| u64::from(side) / DOWNSAMPLING as u64);
        let (config, computed) = (&self.folder.config, self.device.computed(true));
        let needed = self.footprint.encoding(config, computed, size.into(), 1);
        memory::check(&format!("encoding {name} of {width}×{height} pixels"), needed, self.device)?;
        TokenGrid::encode(&self.encoder, image)
    }
}

fn encode(args: &EncodeArgs) -> Result<()> {
    ensure!(!args.out.is_dir(), "--out: expected a file, {} is a folder", args.out.display());
    let inputs: Vec<&Path> = args.images.iter().map(PathBuf::as_path).collect();
    outputs::check(&inputs, &[("--out", Some(&args.out))])?;
    let encoder = FileEncoder::open(args)?;
    let mut lines = Vec::new();
    let mut write = |name: &str, grid: TokenGrid| -> Result<()> {
        serde_json::to_writer(&mut lines, &NamedGrid { name, grid })?;
        lines.push(b'\n');
        Ok(())
    };
    match args.images.as_slice() {
        [path] if path.join(MANIFEST).is_file() => {
            let shards = Shards::open(path)?;
            let progress = bar(shards.manifest().records as u64, "encoding images");
            for entry in shards.entries(None) {
                let entry: Entry = entry?;
                write(entry.key(), encoder.image(entry.key(), &entry.image()?)?)?;
                progress.inc(1);
            }
        }
        [path] => return Ok(write_file(&args.out, &serde_json::to_vec(&encoder.file(path)?)?)?),
        paths => {
            let progress = bar(paths.len() as u64, "encoding images");
            for path in paths {
                write(&path.display().to_string(), encoder.file(path)?)?;
                progress.inc(1);
            }
        }
    }
    Ok(write_file(&args.out, &lines)?)
}

fn encode_dataset(args: &EncodeArgs, data: &Path) -> Result<()> {
    let inputs = [("data", data.to_owned(), true), ("model", args.model.clone(), false)];
    check_apart(("out", &args.out), inputs.into_iter())?;
    let shards = Shards::open(data)?;
    let folder = ModelFolder::open(&args.model)?;
    let config = &folder.config;
    let crops = args.crops.unwrap_or(CROPS) as usize;
    let format = token_dataset::format(&shards, config, folder.sha256(ENCODER)?, crops, args.seed);
    let (grid, together) = (config.geometry().grid as u64, token_dataset::ENCODED_TOGETHER as u64);
    let needed = Footprint::new(config).encoding(config, args.device.computed(true), (grid, grid), together);
    memory::check(&format!("encoding {}", data.display()), needed, args.device)?;
    let out = NewFolder::begin(&args.out, MANIFEST, args.overwrite)?;
    let encoder = folder.encoder(&args.device.open()?)?;
    let progress = bar(shards.manifest().records as u64, "encoding images");
    let manifest = token_dataset::write(&shards, &format, config, &encoder, out, || progress.inc(1))?;
    progress.finish_and_clear();
    writeln!(
        std::io::stdout(),
        "wrote the tokens of {} images to {}, {} {} each, in {} shards",
        manifest.records,
        args.out.display(),
        format.crops,
        if format.crops == 1 { "crop" } else { "crops" },
        manifest.shards.len()
    )?;
    Ok(())
}

fn decode(args: &DecodeArgs) -> Result<()> {
    outputs::check(&[&args.tokens], &[("--out", Some(&args.out))])?;
    let folder = ModelFolder::open(&args.model)?;
    let grid = TokenGrid::read(&args.tokens, folder.config.dvae.vocab)?;
    let (width, height) = (grid.grid, grid.tokens.len() / grid.grid);
    let (footprint, computed) = (Footprint::new(&folder.config), args.device.computed(true));
    let needed = footprint.decoding(&folder.config, computed, (height as u64, width as u64), 1);
    memory::check(&format!("decoding {width}×{height} tokens"), needed, args.device)?;
    let decoder = folder.decoder(&args.device.open()?)?;
    write_png(&args.out, &decode_image(&decoder, &grid.tokens, grid.grid)?)
}
