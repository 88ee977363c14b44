//! `dalle eval overlap`: the nearest training picture of each held-out one, and what removing the nearest changes.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use dalle_native::device::DeviceName;
use image::RgbImage;
use serde::Serialize;

use dalle_data::{Dataset, Example, Split};
use dalle_eval::at_size;
use dalle_eval::features::{self, extract_all};
use dalle_eval::overlap::nearest;
use dalle_eval::reconstruction::{Loss, measure};
use dalle_eval::report::Report;
use dalle_eval::sheet::Cell;
use dalle_eval::similarity::psnr;
use dalle_native::ModelFolder;
use dalle_native::publish::write_file;
use dalle_train::progress::bar;

use super::provenance::Provenance;
use super::{Outputs, SHOWN, first_of, percent, values};

const SCRIPT: &str = include_str!("overlap.js");
/// Where the page's slider begins without a --threshold.
const START: f32 = 0.95;
/// Thresholds of the page's table.
const THRESHOLDS: [f32; 6] = [0.99, 0.97, 0.95, 0.9, 0.85, 0.8];

/// Arguments of `dalle eval overlap`.
#[derive(clap::Args)]
pub struct Args {
    /// Dataset whose training pictures may have been seen.
    #[arg(long)]
    train: PathBuf,
    /// Dataset whose held-out pictures are looked for among them; it may be the same.
    #[arg(long)]
    validation: PathBuf,
    /// Weights of the network whose features are compared: EfficientNet-Lite0, or Inception v3 under torchvision's names;
    /// or a model folder with a contrastive model, whose own features they are then.
    #[arg(long)]
    features: PathBuf,
    /// Model folder: also says how well its dVAE reconstructs the pictures before and after the removal.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Remove held-out pictures whose nearest training picture has at least this cosine.
    #[arg(long, value_parser = values::cosine)]
    threshold: Option<f32>,
    /// File to write the keys of the removed pictures into, for --without of `fd` and `reconstruction`.
    #[arg(long, requires = "threshold", value_parser = values::file)]
    removed: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// The result.
#[derive(Serialize)]
struct Overlap<'a> {
    network: &'static str,
    training_pictures: usize,
    /// Nearest first.
    pairs: Vec<Named<'a>>,
    /// What the chosen threshold removes.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Removal>,
}

/// A held-out picture, its nearest training picture, and what the dVAE loses of the first.
#[derive(Serialize)]
struct Named<'a> {
    validation: &'a str,
    train: &'a str,
    cosine: f32,
    squared_error: Option<f64>,
    ssim: Option<f64>,
}

/// What a threshold removes, and the reconstruction (PSNR in dB, SSIM) of all pictures and of those that stay.
#[derive(Clone, Copy, Serialize)]
struct Removal {
    threshold: f32,
    removed: usize,
    before: Option<(f64, f64)>,
    after: Option<(f64, f64)>,
}

impl Overlap<'_> {
    fn removal(&self, threshold: f32) -> Removal {
        let removed = self.pairs.iter().take_while(|pair| pair.cosine >= threshold).count();
        let quality = |pairs: &[Named]| -> Option<(f64, f64)> {
            let count = pairs.len() as f64;
            let errors = pairs.iter().map(|pair| pair.squared_error).sum::<Option<f64>>()?;
            let ssim = pairs.iter().map(|pair| pair.ssim).sum::<Option<f64>>()?;
            (count > 0.0).then(|| (psnr(errors / count), ssim / count))
        };
        Removal { threshold, removed, before: quality(&self.pairs), after: quality(&self.pairs[removed..]) }
    }
}

/// Measures and writes.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[("--removed", args.removed.as_deref())])?;
    let device = args.device.open()?;
    let extractor = features::open(&args.features, &device)?;
    let (train, validation) = (Dataset::open(&args.train)?, Dataset::open(&args.validation)?);
    let mut provenance = Provenance::new(&[&train, &validation]).judged_by(&args.features)?;
    if let Some(threshold) = args.threshold {
        provenance = provenance.with("threshold", threshold);
    }
    let train: Vec<&Example> = train.split(Split::Train).collect();
    let validation: Vec<&Example> = validation.split(Split::Val).collect();
    ensure!(!train.is_empty(), "{} holds no training pictures", args.train.display());
    ensure!(
        !validation.is_empty(),
        "{} holds no held-out pictures; build it with --val above 0",
        args.validation.display()
    );
    let look = |examples: &[&Example], what: &'static str| -> Result<Vec<Vec<f32>>> {
        let pictures: Vec<&RgbImage> = examples.iter().map(|example| &example.image).collect();
        let progress = bar(pictures.len() as u64, what);
        let extracted =
            extract_all(&*extractor, &pictures, RgbImage::clone, |done| progress.set_position(done as u64))?;
        progress.finish_and_clear();
        Ok(extracted.features)
    };
    let (of_train, of_validation) =
        (look(&train, "looking at training pictures")?, look(&validation, "looking at held-out pictures")?);
    let pairs = nearest(&of_train, &of_validation, &device)?;
    let mut losses = None;
    if let Some(model) = &args.model {
        let folder = ModelFolder::open(model)?;
        losses = Some(reconstruct(&folder, &validation, &device)?);
        provenance = provenance.of(&folder)?;
    }
    let named = pairs.iter().map(|pair| {
        let loss = losses.as_ref().map(|losses| &losses[pair.validation]);
        Named {
            validation: &validation[pair.validation].key,
            train: &train[pair.train].key,
            cosine: pair.cosine,
            squared_error: loss.map(|loss| loss.squared_error),
            ssim: loss.map(|loss| loss.ssim),
        }
    });
    let mut result = Overlap {
        network: extractor.names().network,
        training_pictures: train.len(),
        pairs: named.collect(),
        threshold: None,
    };
    result.threshold = args.threshold.map(|threshold| result.removal(threshold));
    let captions: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{:.3} · {}", pair.cosine, validation[pair.validation].captions.main()))
        .collect();
    let cells: Vec<Cell> = pairs
        .iter()
        .zip(&captions)
        .take(SHOWN)
        .map(|(pair, caption)| Cell {
            images: vec![&validation[pair.validation].image, &train[pair.train].image],
            caption,
        })
        .collect();
    if let (Some(path), Some(removal)) = (&args.removed, &result.threshold) {
        let keys: String =
            result.pairs[..removal.removed].iter().map(|pair| format!("{}\n", pair.validation)).collect();
        write_file(path, keys.as_bytes())?;
    }
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
    let mut out = std::io::stdout();
    if let Some(removal) = result.threshold {
        write!(out, "{} of {} held-out pictures removed", removal.removed, result.pairs.len())?;
        if let (Some((before, _)), Some((after, _))) = (removal.before, removal.after) {
            write!(out, "; reconstruction {before:.2} dB before, {after:.2} dB after")?;
        }
        writeln!(out)?;
    }
    let nearest = result.pairs.first().map_or(0.0, |pair| pair.cosine);
    writeln!(
        out,
        "{} held-out pictures, the nearest at a cosine of {nearest:.3}; see {written}",
        result.pairs.len()
    )?;
    Ok(())
}

/// What a model's dVAE loses of each example.
fn reconstruct(
    folder: &ModelFolder,
    examples: &[&Example],
    device: &dalle_model::Device,
) -> Result<Vec<Loss>> {
    let (encoder, decoder) = (folder.encoder(device)?, folder.decoder(device)?);
    let sized: Vec<RgbImage> =
        examples.iter().map(|example| at_size(example, folder.config.image_size)).collect();
    let pictures: Vec<(&str, &RgbImage)> =
        examples.iter().map(|example| example.key.as_str()).zip(&sized).collect();
    let progress = bar(pictures.len() as u64, "reconstructing pictures");
    let (result, _) = measure(&encoder, &decoder, folder.config.dvae.vocab, &pictures, || progress.inc(1))?;
    progress.finish_and_clear();
    Ok(result.each)
}

fn page(result: &Overlap, shown: &[Cell]) -> Result<Report> {
    let mut page = Report::new(
        "Has training nearly seen the held-out pictures?",
        "Each held-out picture beside the training picture nearest to it, nearest first. Move the threshold to where two \
         pictures are no longer the same.",
    );
    let mut thresholds = THRESHOLDS.to_vec();
    thresholds.extend(result.threshold.map(|removal| removal.threshold));
    thresholds.sort_by(|a, b| b.total_cmp(a));
    thresholds.dedup();
    let quality = |quality: Option<(f64, f64)>| {
        quality.map_or("–".to_owned(), |(psnr, ssim)| format!("{psnr:.2} dB, {ssim:.4}"))
    };
    let rows: Vec<Vec<String>> = thresholds
        .iter()
        .map(|&threshold| result.removal(threshold))
        .map(|removal| {
            vec![
                format!("{:.3}", removal.threshold),
                removal.removed.to_string(),
                percent(removal.removed as f64 / result.pairs.len() as f64),
                quality(removal.before),
                quality(removal.after),
            ]
        })
        .collect();
    page.figures(&[
        ("Held-out pictures", result.pairs.len().to_string(), "each with its nearest training picture"),
        ("Training pictures", result.training_pictures.to_string(), "looked through"),
        ("Features", result.network.to_owned(), "compared by the cosine of their angle"),
    ]);
    page.table(
        "What a threshold removes, and the dVAE's reconstruction (PSNR, SSIM) of all held-out pictures and of those that stay",
        &["cosine of at least", "removed", "share", "before", "after"],
        &rows,
    );
    page.section(
        "The pairs",
        &format!(
            "Left the held-out picture, right its nearest training picture.{}",
            first_of(shown, result.pairs.len())
        ),
    );
    let lowest = result.pairs.last().map_or(0.0, |pair| pair.cosine).max(0.0);
    let start = result.threshold.map_or(START, |removal| removal.threshold);
    page.html(&format!(
        "<div class=\"threshold\"><label for=\"threshold\">Threshold of the cosine</label><input id=\"threshold\" type=\"range\" \
         min=\"{:.3}\" max=\"1\" step=\"0.001\" value=\"{start:.3}\"><output id=\"removed\" for=\"threshold\" \
         aria-live=\"polite\"></output><a id=\"list\" download=\"removed.txt\">Save the list of the removed pictures</a></div>\n",
        (lowest * 1000.0).floor() / 1000.0
    ));
    page.pictures(&["held-out picture", "nearest training picture"], shown)?;
    let data = serde_json::json!({ "pairs": result.pairs, "noun": "held-out pictures" });
    // Within a script element only `<` could end the data.
    let data = data.to_string().replace('<', "\\u003c");
    page.html(&format!(
        "<script type=\"application/json\" id=\"pairs\">{data}</script>\n<script>\n{SCRIPT}</script>\n"
    ));
    let rows: Vec<Vec<String>> = result
        .pairs
        .iter()
        .take(SHOWN)
        .map(|pair| vec![pair.validation.to_owned(), pair.train.to_owned(), format!("{:.3}", pair.cosine)])
        .collect();
    page.section("By name", "The keys of the same pairs.");
    page.table(
        "Held-out pictures and their nearest training pictures",
        &["held out", "training", "cosine"],
        &rows,
    );
    Ok(page)
}
