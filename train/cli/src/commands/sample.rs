//! `dalle sample "a caption" --out picture.png`, from nothing or from the first rows of a picture (section 3.3).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::builder::RangedU64ValueParser;
use dalle_model::Device;
use dalle_model::clip::best_first;
use dalle_shared::{ImageToken, MAX_SAMPLES};
use image::RgbImage;

use crate::png::write_png;
use dalle_eval::reranking::{Judge, draw, scores};
use dalle_eval::sampling::{Model, Order};
use dalle_eval::sheet::{Cell, contact_sheet};
use dalle_native::ModelFolder;
use dalle_native::publish::write_file;
use dalle_train::tokens::{TokenGrid, read_picture};
use dalle_train::training::bar;

use super::sampling::{DeviceArgs, SamplingArgs};
use super::{outputs, values};

/// Most pictures to choose among; the paper draws 512.
pub const MAX_BEST_OF: u64 = 1 << 12;
/// Pictures shown of those, unless --show says otherwise.
const SHOWN: usize = 8;
/// Pictures in a row of the sheet.
const COLUMNS: usize = 4;

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
    /// Draw this many, each with a seed of its own from --seed on, and let the contrastive model choose; --out becomes a sheet of
    /// the best, with their scores. The lower the --temperature, the more alike they are.
    #[arg(long, conflicts_with = "samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    best_of: Option<usize>,
    /// Of --best-of, show this many, the best first [default: 8, or all of fewer].
    #[arg(long, requires = "best_of")]
    show: Option<usize>,
    /// The same seed gives the same picture, here and on the server; of several, the next has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Begin with the first rows of this picture and draw the rest.
    #[arg(long, value_name = "PICTURE", requires = "rows")]
    image: Option<PathBuf>,
    /// The same with a picture's tokens.json, such as --tokens or `dalle dvae encode` writes.
    #[arg(long, value_name = "TOKENS", requires = "rows")]
    image_tokens: Option<PathBuf>,
    /// Rows of tokens, each 8 pixels high, to keep of --image or --image-tokens.
    #[arg(long, requires = "beginning")]
    rows: Option<usize>,
    /// Also write the tokens of the first picture; of --best-of, of the best.
    #[arg(long, value_parser = values::file)]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle sample`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    let inputs: Vec<&Path> =
        [&args.image, &args.image_tokens].into_iter().filter_map(Option::as_deref).collect();
    outputs::check(&inputs, &[("--out", Some(&args.out)), ("--tokens", args.tokens.as_deref())])?;
    if let Some(count) = args.best_of {
        return choose(args, count);
    }
    ensure!(
        (1..=MAX_SAMPLES).contains(&args.samples),
        "--samples: expected 1 to {MAX_SAMPLES}, got {}",
        args.samples
    );
    let folder = ModelFolder::open(&args.model)?;
    let sampling = args.sampling.settings(folder.config.dvae.vocab)?;
    let device = args.on.device.open()?;
    let prefix = prefix(args, &folder, &device)?;
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
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
    write_tokens(args, &model, &pictures[0])?;
    let rate = count as f64 / seconds;
    writeln!(std::io::stdout(), "{count} tokens in {seconds:.2} s, {rate:.0} tokens per second")?;
    Ok(())
}

/// Draws `count` pictures and shows those that the contrastive model finds nearest to the caption.
fn choose(args: &Args, count: usize) -> Result<()> {
    let shown = args.show.unwrap_or(SHOWN.min(count));
    ensure!((1..=count).contains(&shown), "--show: expected 1 to the {count} of --best-of, got {shown}");
    let folder = ModelFolder::open(&args.model)?;
    let sampling = args.sampling.settings(folder.config.dvae.vocab)?;
    let device = args.on.device.open()?;
    let judge = Judge::load(&folder, args.on.device)?;
    let prefix = prefix(args, &folder, &device)?;
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
    let order = Order { caption: &args.caption, samples: count, seed: args.seed, prefix: &prefix };
    let progress = bar((count * model.config.geometry().image_length()) as u64, "sampling tokens");
    let candidates = draw(&mut model, &judge, &order, sampling, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let places = best_first(&scores(&candidates));
    let best: Vec<_> = places.into_iter().take(shown).map(|place| &candidates[place]).collect();
    let labels: Vec<String> = (1..)
        .zip(&best)
        .map(|(place, candidate)| format!("{place}. score {:.3}, seed {}", candidate.score, candidate.seed))
        .collect();
    let cells: Vec<Cell> = best
        .iter()
        .zip(&labels)
        .map(|(candidate, label)| Cell { images: vec![&candidate.picture], caption: label })
        .collect();
    write_png(&args.out, &contact_sheet(&cells, COLUMNS))?;
    write_tokens(args, &model, &best[0].tokens)?;
    let mean = scores(&candidates).iter().sum::<f32>() / count as f32;
    writeln!(std::io::stdout(), "{}\nmean of all {count}: {mean:.3}", labels.join("\n"))?;
    Ok(())
}

/// Writes a picture's tokens where --tokens says.
fn write_tokens(args: &Args, model: &Model, tokens: &[ImageToken]) -> Result<()> {
    let Some(path) = &args.tokens else { return Ok(()) };
    let grid = TokenGrid { grid: model.config.geometry().grid, tokens: tokens.to_vec() };
    Ok(write_file(path, &serde_json::to_vec(&grid)?)?)
}

/// The tokens that the pictures begin with.
fn prefix(args: &Args, folder: &ModelFolder, device: &Device) -> Result<Vec<ImageToken>> {
    let geometry = folder.config.geometry();
    let (path, grid): (&Path, TokenGrid) = match (&args.image, &args.image_tokens) {
        (Some(path), _) => {
            let picture = read_picture(path, geometry.image_size)?;
            let size = geometry.image_size as u32;
            // Before it is encoded: a large one would take long.
            ensure!(
                picture.dimensions() == (size, size),
                "{}: expected a picture of {size}×{size} pixels as this model draws them, got {}×{}",
                path.display(),
                picture.width(),
                picture.height()
            );
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
