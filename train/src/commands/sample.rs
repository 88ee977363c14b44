//! `dalle sample "a caption" --out picture.png`, from nothing or from the first rows of a picture (section 3.3).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use dalle_model::Device;
use dalle_model::device::DeviceName;
use dalle_shared::{ImageToken, MAX_SAMPLES, SamplingSettings};
use image::RgbImage;

use super::values;
use crate::data::{write_file, write_png};
use crate::model_folder::ModelFolder;
use crate::sampling::{Model, Order};
use crate::tokens::{TokenGrid, read_picture};
use crate::training::bar;

/// Arguments of `dalle sample`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("beginning").args(["image", "image_tokens"]))]
pub struct Args {
    /// What to draw.
    caption: String,
    /// The picture to write (.png); several samples stand side by side.
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// Pictures, 1 to 9.
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// The same seed gives the same pictures, here and on the server.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = SamplingSettings::DEFAULT_TEMPERATURE)]
    temperature: f32,
    /// Keep only this many most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Begin with the first rows of this picture and draw the rest.
    #[arg(long, value_name = "PICTURE", requires = "rows")]
    image: Option<PathBuf>,
    /// The same with a picture's tokens.json, such as --tokens or `dalle dvae encode` writes.
    #[arg(long, value_name = "TOKENS", requires = "rows")]
    image_tokens: Option<PathBuf>,
    /// Rows of tokens, each 8 pixels high, to keep of --image or --image-tokens.
    #[arg(long, requires = "beginning")]
    rows: Option<usize>,
    /// Also write the tokens of the first picture.
    #[arg(long, value_parser = values::file)]
    tokens: Option<PathBuf>,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle sample`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        (1..=MAX_SAMPLES).contains(&args.samples),
        "--samples: expected 1 to {MAX_SAMPLES}, got {}",
        args.samples
    );
    let folder = ModelFolder::open(&args.model)?;
    let device = args.device.open()?;
    let prefix = prefix(args, &folder, &device)?;
    let mut model = Model::load(&folder, &device)?;
    let sampling = SamplingSettings { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    let progress = bar(model.config.geometry().image_length() as u64, "sampling tokens");
    let begun = Instant::now();
    let order = Order { caption: &args.caption, samples: args.samples, seed: args.seed, prefix: &prefix };
    let pictures =
        model.sample(&[order], sampling, |done| progress.set_position(done as u64))?.swap_remove(0);
    progress.finish_and_clear();
    let count = pictures.iter().map(|tokens| tokens.len() - prefix.len()).sum::<usize>();
    let seconds = begun.elapsed().as_secs_f64();
    let size = model.config.image_size as u32;
    let mut sheet = RgbImage::new(size * pictures.len() as u32, size);
    for (place, tokens) in pictures.iter().enumerate() {
        image::imageops::replace(&mut sheet, &model.decode(tokens)?, (place as u32 * size).into(), 0);
    }
    write_png(&args.out, &sheet)?;
    if let Some(path) = &args.tokens {
        let grid = TokenGrid { grid: model.config.geometry().grid, tokens: pictures[0].clone() };
        write_file(path, &serde_json::to_vec(&grid)?)?;
    }
    let rate = count as f64 / seconds;
    writeln!(std::io::stdout(), "{count} tokens in {seconds:.2} s, {rate:.0} tokens per second")?;
    Ok(())
}

/// The tokens that the pictures begin with.
fn prefix(args: &Args, folder: &ModelFolder, device: &Device) -> Result<Vec<ImageToken>> {
    let geometry = folder.config.geometry();
    let (path, grid): (&Path, TokenGrid) = match (&args.image, &args.image_tokens) {
        (Some(path), _) => {
            let picture = read_picture(path, geometry.image_size)?;
            (path, TokenGrid::encode(&folder.encoder(device)?, &picture)?)
        }
        (None, Some(path)) => (path, TokenGrid::read(path, geometry.image_vocab)?),
        (None, None) => return Ok(Vec::new()),
    };
    let (side, high) = (geometry.grid, grid.tokens.len() / grid.grid);
    ensure!(
        (grid.grid, high) == (side, side),
        "{}: expected {side}×{side} tokens, a picture of {size}×{size} pixels as this model draws them, got {}×{high} tokens",
        path.display(),
        grid.grid,
        size = geometry.image_size,
    );
    let rows = args.rows.unwrap_or_default();
    ensure!(
        (1..side).contains(&rows),
        "--rows: expected 1 to {}, so that something is kept and something drawn, got {rows}",
        side - 1
    );
    Ok(grid.tokens[..rows * side].to_vec())
}
