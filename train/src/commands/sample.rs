//! `dalle sample "a caption" --out picture.png`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use dalle_model::device::DeviceName;
use dalle_shared::MAX_SAMPLES;
use image::RgbImage;

use super::sampling::SamplingArgs;
use super::values;
use crate::data::{write_file, write_png};
use crate::model_folder::ModelFolder;
use crate::sampling::{Model, Order};
use crate::tokens::TokenGrid;
use crate::training::bar;

/// Arguments of `dalle sample`.
#[derive(clap::Args)]
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
    #[command(flatten)]
    sampling: SamplingArgs,
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
    let mut model = Model::load(&folder, &args.device.open()?)?;
    let progress = bar(model.config.geometry().image_length() as u64, "sampling tokens");
    let begun = Instant::now();
    let order = Order { caption: &args.caption, samples: args.samples, seed: args.seed };
    let pictures = model
        .sample(&[order], args.sampling.into(), |done| progress.set_position(done as u64))?
        .swap_remove(0);
    progress.finish_and_clear();
    let count = pictures.iter().map(Vec::len).sum::<usize>();
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
