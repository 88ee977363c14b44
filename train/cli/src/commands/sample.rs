//! `dalle sample "a caption" --out image.png`, from scratch or from the first rows of an image (section 3.3).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;
use dalle_data::log_line;
use dalle_eval::generator::{Generator, SampleSpec};
use dalle_eval::reranking::{Candidate, ClipScorer, sample_and_score, scores};
use dalle_eval::sheet::{Cell, contact_sheet};
use dalle_model::Device;
use dalle_native::ModelFolder;
use dalle_native::image_file::read_image;
use dalle_native::publish::write_file;
use dalle_shared::{
    ImageMetadata, ImageToken, MAX_SAMPLES, ModelIdentity, SampleMetadata, SamplingSettings, Seed,
    best_first, clean_caption, is_blank_caption,
};
use dalle_train::progress::bar;
use dalle_train::tokens::TokenGrid;
use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage, Rgba, RgbaImage};

use super::options::{DeviceArgs, SamplingArgs};
use super::{outputs, values};
use crate::png::write_png_with;

/// Largest --best-of; the paper uses 512.
pub const MAX_BEST_OF: u64 = 1 << 12;
/// Default of --show.
const SHOWN: usize = 8;
/// Images per row of the sheet.
const COLUMNS: usize = 4;

/// Arguments of `dalle sample`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("beginning").args(["image", "image_tokens"]))]
pub struct Args {
    /// The caption.
    caption: String,
    /// Image to write (.png); several samples are placed side by side.
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// Number of samples, 1 to 9.
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// Sample this many images, with consecutive seeds starting at --seed, and rerank them with CLIP. --out becomes a contact sheet
    /// of the best images with their scores. A lower --temperature makes the images more similar.
    #[arg(long, conflicts_with = "samples", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    best_of: Option<usize>,
    /// With --best-of, show this many of the best [default: 8, or all if there are fewer].
    #[arg(long, requires = "best_of")]
    show: Option<usize>,
    /// Seed of the first sample; each of the others has the next seed. The same seed gives the same image, here and on the server.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Keep the first rows of this image and sample the rest. Its middle square is scaled to the model's size.
    #[arg(long, value_name = "IMAGE", requires = "rows")]
    image: Option<PathBuf>,
    /// Keep the first rows of an image given by its tokens (.json), as written by --tokens or `dalle dvae encode`.
    #[arg(long, value_name = "TOKENS", requires = "rows")]
    image_tokens: Option<PathBuf>,
    /// Number of rows of tokens to keep of --image or --image-tokens; a row is 8 pixels high.
    #[arg(long, requires = "beginning")]
    rows: Option<usize>,
    /// Also write the tokens of the first sample (.json), or of the best one with --best-of.
    #[arg(long, value_parser = values::file)]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle sample`.
pub fn run(args: &Args) -> Result<()> {
    let inputs: Vec<&Path> =
        [&args.image, &args.image_tokens].into_iter().filter_map(Option::as_deref).collect();
    outputs::check(&inputs, &[("--out", Some(&args.out)), ("--tokens", args.tokens.as_deref())])?;
    ensure!(
        !is_blank_caption(&args.caption),
        "the caption is empty; describe the image. To sample without a caption, give any and --guidance 0"
    );
    match args.best_of {
        Some(count) => sample_best(args, count),
        None => sample(args),
    }
}

/// Samples --samples images into one.
fn sample(args: &Args) -> Result<()> {
    ensure!(
        (1..=MAX_SAMPLES).contains(&args.samples),
        "--samples: expected 1 to {MAX_SAMPLES}, got {}",
        args.samples
    );
    let folder = ModelFolder::open(&args.model)?;
    let settings = args.sampling.settings(folder.config.dvae.vocab)?;
    let device = args.on.device.open()?;
    let prefix = prefix(args, &folder, &device)?;
    let mut generator = Generator::load(&folder, args.on.device, args.on.dtype)?;
    let progress = bar(generator.config.geometry().image_length() as u64, "sampling tokens");
    let begun = Instant::now();
    let caption = clean_caption(&args.caption);
    let spec = SampleSpec { caption: &caption, samples: args.samples, seed: args.seed, prefix: &prefix };
    let samples =
        generator.sample(&[spec], settings, |done| progress.set_position(done as u64))?.swap_remove(0);
    progress.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let image = side_by_side(&generator, &samples)?;
    let seeds = (0..samples.len()).map(|sample| Seed(args.seed).of_sample(sample));
    let shown: Vec<(Seed, &[ImageToken])> = seeds.zip(samples.iter().map(Vec::as_slice)).collect();
    write_png_with(&args.out, &image, &metadata(args, &folder, settings, prefix.len(), &shown)?)?;
    write_tokens(args, &generator, &samples[0])?;
    let count = samples.iter().map(|tokens| tokens.len() - prefix.len()).sum::<usize>();
    let rate = count as f64 / seconds;
    let seeds: Vec<String> = shown.iter().map(|(seed, _)| seed.0.to_string()).collect();
    let stdout = &mut std::io::stdout();
    writeln!(stdout, "seed {}", seeds.join(", "))?;
    writeln!(stdout, "{count} tokens in {seconds:.2} s, {rate:.0} tokens per second")?;
    Ok(())
}

/// How the samples in --out were generated. `shown` has the seed and tokens of each.
fn metadata(
    args: &Args,
    folder: &ModelFolder,
    sampling: SamplingSettings,
    prefix: usize,
    shown: &[(Seed, &[ImageToken])],
) -> Result<ImageMetadata> {
    let samples = shown.iter().map(|&(seed, tokens)| SampleMetadata { seed, tokens: tokens.to_vec() });
    Ok(ImageMetadata {
        caption: clean_caption(&args.caption),
        model: ModelIdentity { name: folder.config.name.clone(), hash: folder.hash()? },
        sampling,
        prefix,
        samples: samples.collect(),
    })
}

fn side_by_side(generator: &Generator, samples: &[Vec<ImageToken>]) -> Result<RgbImage> {
    let size = generator.config.image_size as u32;
    let mut row = RgbImage::new(size * samples.len() as u32, size);
    for (index, tokens) in (0..).zip(samples) {
        imageops::replace(&mut row, &generator.decode(tokens)?, index * i64::from(size), 0);
    }
    Ok(row)
}

/// Samples `count` images and writes the best: by their CLIP scores and, where these are nearly equal, those most like the others.
fn sample_best(args: &Args, count: usize) -> Result<()> {
    let shown = args.show.unwrap_or(SHOWN.min(count));
    ensure!((1..=count).contains(&shown), "--show: expected 1 to {count} (--best-of), got {shown}");
    let folder = ModelFolder::open(&args.model)?;
    let settings = args.sampling.settings(folder.config.dvae.vocab)?;
    let device = args.on.device.open()?;
    let scorer = ClipScorer::load(&folder, args.on.device)?;
    let prefix = prefix(args, &folder, &device)?;
    let mut generator = Generator::load(&folder, args.on.device, args.on.dtype)?;
    let caption = clean_caption(&args.caption);
    let spec = SampleSpec { caption: &caption, samples: count, seed: args.seed, prefix: &prefix };
    let progress = bar((count * generator.config.geometry().image_length()) as u64, "sampling tokens");
    let candidates = sample_and_score(&mut generator, &scorer, &spec, settings, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let scores = scores(&candidates);
    let tokens: Vec<&[ImageToken]> = candidates.iter().map(|candidate| candidate.tokens.as_slice()).collect();
    let best: Vec<&Candidate> =
        best_first(&scores, &tokens).into_iter().take(shown).map(|index| &candidates[index]).collect();
    let labels: Vec<String> = (1..)
        .zip(&best)
        .map(|(rank, candidate)| format!("{rank}. score {:.3}, seed {}", candidate.score, candidate.seed))
        .collect();
    let cells: Vec<Cell> = best
        .iter()
        .zip(&labels)
        .map(|(candidate, label)| Cell { images: vec![&candidate.image], caption: label })
        .collect();
    let shown: Vec<(Seed, &[ImageToken])> =
        best.iter().map(|candidate| (Seed(candidate.seed), candidate.tokens.as_slice())).collect();
    let metadata = metadata(args, &folder, settings, prefix.len(), &shown)?;
    write_png_with(&args.out, &contact_sheet(&cells, COLUMNS), &metadata)?;
    write_tokens(args, &generator, &best[0].tokens)?;
    let mean = scores.iter().sum::<f32>() / count as f32;
    writeln!(std::io::stdout(), "{}\nmean score of all {count}: {mean:.3}", labels.join("\n"))?;
    Ok(())
}

/// Writes the tokens of a sample to --tokens, if set.
fn write_tokens(args: &Args, generator: &Generator, tokens: &[ImageToken]) -> Result<()> {
    let Some(path) = &args.tokens else { return Ok(()) };
    let grid = TokenGrid { grid: generator.config.geometry().grid, tokens: tokens.to_vec() };
    Ok(write_file(path, &serde_json::to_vec(&grid)?)?)
}

/// The tokens of the first --rows of --image or --image-tokens; empty without them.
fn prefix(args: &Args, folder: &ModelFolder, device: &Device) -> Result<Vec<ImageToken>> {
    let geometry = folder.config.geometry();
    let (path, grid): (&Path, TokenGrid) = match (&args.image, &args.image_tokens) {
        (Some(path), _) => (path, encode(path, folder, device)?),
        (None, Some(path)) => (path, TokenGrid::read(path, geometry.image_vocab)?),
        (None, None) => return Ok(Vec::new()),
    };
    let (side, height) = (geometry.grid, grid.tokens.len() / grid.grid);
    ensure!(
        (grid.grid, height) == (side, side),
        "{}: expected {side}×{side} tokens, as for this model's images of {size}×{size} pixels, got {}×{height}",
        path.display(),
        grid.grid,
        size = geometry.image_size,
    );
    let rows = args.rows.unwrap_or_default();
    ensure!(
        (1..side).contains(&rows),
        "--rows: expected 1 to {}, so that some rows are kept and others sampled, got {rows}",
        side - 1
    );
    Ok(grid.tokens[..rows * side].to_vec())
}

/// Encodes an image, as the page does: its middle square, scaled to the model's size, on white.
fn encode(path: &Path, folder: &ModelFolder, device: &Device) -> Result<TokenGrid> {
    let size = folder.config.image_size as u32;
    let image = read_image(path).with_context(|| format!("cannot read the image {}", path.display()))?;
    let (width, height) = (image.width(), image.height());
    let mut square = image.into_rgba8();
    if (width, height) != (size, size) {
        log_line(format_args!(
            "{}: the middle square of its {width}×{height} pixels is scaled to {size}×{size}, the model's size",
            path.display()
        ));
        let side = width.min(height);
        let middle =
            imageops::crop_imm(&square, (width - side) / 2, (height - side) / 2, side, side).to_image();
        square = imageops::resize(&middle, size, size, FilterType::Lanczos3);
    }
    let mut white = RgbaImage::from_pixel(size, size, Rgba([u8::MAX; 4]));
    imageops::overlay(&mut white, &square, 0, 0);
    TokenGrid::encode(&folder.encoder(device)?, &DynamicImage::from(white).into_rgb8())
}
