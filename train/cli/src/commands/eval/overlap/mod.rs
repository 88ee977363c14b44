//! `dalle eval overlap`: the nearest training image of each held-out image, and what removing near-duplicates changes.

mod report;
mod result;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use dalle_data::{Dataset, Example, Split};
use dalle_eval::features::{self, Extractor, extract_all};
use dalle_eval::overlap::{NearestPair, nearest_pairs};
use dalle_eval::reconstruction::ImageQuality;
use dalle_eval::sheet::Cell;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::publish::write_file;
use dalle_train::progress::bar;
use image::RgbImage;

use super::output::{OutputArgs, SHOWN};
use super::provenance::Provenance;
use super::reconstruction::reconstruct;
use super::values;
use result::{NamedPair, Overlap};

/// Arguments of `dalle eval overlap`.
#[derive(clap::Args)]
pub struct Args {
    /// Dataset whose training split is searched.
    #[arg(long)]
    train: PathBuf,
    /// Dataset whose validation split is searched for; may be the same.
    #[arg(long)]
    validation: PathBuf,
    /// Feature network: weights of EfficientNet-Lite0, or of Inception v3 with torchvision's names; or a model folder, for the
    /// features of its CLIP.
    #[arg(long)]
    features: PathBuf,
    /// Model folder: also report the reconstruction quality of its dVAE before and after the removal.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Remove held-out images whose nearest training image has at least this cosine similarity.
    #[arg(long, value_parser = values::cosine)]
    threshold: Option<f32>,
    /// File to write the keys of the removed images to, for --without of `fd` and `reconstruction`.
    #[arg(long, requires = "threshold", value_parser = values::file)]
    removed: Option<PathBuf>,
    #[command(flatten)]
    outputs: OutputArgs,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle eval overlap`.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[("--removed", args.removed.as_deref())])?;
    let device = args.device.open()?;
    let extractor = features::open(&args.features, &device)?;
    let (train, validation) = (Dataset::open(&args.train)?, Dataset::open(&args.validation)?);
    let mut provenance = Provenance::new(&[&train, &validation]).weights(&args.features)?;
    if let Some(threshold) = args.threshold {
        provenance = provenance.option("threshold", threshold);
    }
    let train: Vec<&Example> = train.split(Split::Train).collect();
    let validation: Vec<&Example> = validation.split(Split::Val).collect();
    ensure!(!train.is_empty(), "{} has no training images", args.train.display());
    ensure!(
        !validation.is_empty(),
        "{} has no held-out images; build it with --val above 0",
        args.validation.display()
    );
    let pairs = nearest_pairs(
        &extract(&*extractor, &train, "extracting features of training images")?,
        &extract(&*extractor, &validation, "extracting features of held-out images")?,
        &device,
    )?;
    let mut quality = None;
    if let Some(model) = &args.model {
        let folder = ModelFolder::open(model)?;
        quality = Some(reconstruct(&folder, &validation, &device)?.result.each);
        provenance = provenance.model(&folder)?;
    }
    let mut result = Overlap {
        network: extractor.names().network,
        training_images: train.len(),
        pairs: named(&pairs, &train, &validation, quality.as_deref()),
        threshold: None,
    };
    result.threshold = args.threshold.map(|threshold| result.removal(threshold));
    if let (Some(path), Some(removal)) = (&args.removed, &result.threshold) {
        write_keys(path, &result.pairs[..removal.removed])?;
    }
    let captions: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{:.3} · {}", pair.cosine, validation[pair.validation].captions.main()))
        .collect();
    let shown = pairs
        .iter()
        .take(SHOWN)
        .map(|pair| Ok([validation[pair.validation].image()?, train[pair.train].image()?]));
    let shown: Vec<[RgbImage; 2]> = shown.collect::<Result<_>>()?;
    let cells: Vec<Cell> = shown
        .iter()
        .zip(&captions)
        .map(|(images, caption)| Cell { images: images.iter().collect(), caption })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report::report(&result, shown))?;
    print(&result, &written)
}

/// Images that are in memory at the same time.
const READ_TOGETHER: usize = 512;

/// The features of the examples' images.
fn extract(extractor: &dyn Extractor, examples: &[&Example], what: &'static str) -> Result<Vec<Vec<f32>>> {
    let progress = bar(examples.len() as u64, what);
    let mut features = Vec::with_capacity(examples.len());
    for examples in examples.chunks(READ_TOGETHER) {
        let images = examples.iter().map(|example| example.image()).collect::<Result<Vec<_>, _>>()?;
        let images: Vec<&RgbImage> = images.iter().collect();
        let done = features.len();
        let extracted = extract_all(extractor, &images, RgbImage::clone, |more| {
            progress.set_position((done + more) as u64);
        })?;
        features.extend(extracted.features);
    }
    progress.finish_and_clear();
    Ok(features)
}

/// The pairs with the keys of their examples. `quality` is in the order of `validation`.
fn named<'a>(
    pairs: &[NearestPair],
    train: &[&'a Example],
    validation: &[&'a Example],
    quality: Option<&[ImageQuality]>,
) -> Vec<NamedPair<'a>> {
    let name = |pair: &NearestPair| {
        let quality = quality.map(|quality| &quality[pair.validation]);
        NamedPair {
            validation: &validation[pair.validation].key,
            train: &train[pair.train].key,
            cosine: pair.cosine,
            squared_error: quality.map(|quality| quality.squared_error),
            ssim: quality.map(|quality| quality.ssim),
        }
    };
    pairs.iter().map(name).collect()
}

/// Writes the keys of the held-out images, one per line.
fn write_keys(path: &Path, pairs: &[NamedPair]) -> Result<()> {
    let keys: String = pairs.iter().map(|pair| format!("{}\n", pair.validation)).collect();
    Ok(write_file(path, keys.as_bytes())?)
}

fn print(result: &Overlap, written: &str) -> Result<()> {
    let mut out = std::io::stdout();
    if let Some(removal) = result.threshold {
        write!(out, "{} of {} held-out images removed", removal.removed, result.pairs.len())?;
        if let (Some((before, _)), Some((after, _))) = (removal.before, removal.after) {
            write!(out, "; reconstruction {before:.2} dB before, {after:.2} dB after")?;
        }
        writeln!(out)?;
    }
    let nearest = result.pairs.first().map_or(0.0, |pair| pair.cosine);
    let count = result.pairs.len();
    writeln!(out, "{count} held-out images, the nearest with a cosine of {nearest:.3}; see {written}")?;
    Ok(())
}
