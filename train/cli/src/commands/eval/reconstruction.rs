//! `dalle eval reconstruction`: reconstruction quality of the dVAE.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_data::{Dataset, Example};
use dalle_eval::reconstruction::{DIFFERENCE_GAIN, Reconstruction, difference, evaluate};
use dalle_eval::report::Report;
use dalle_eval::resized;
use dalle_eval::sheet::Cell;
use dalle_eval::similarity::psnr;
use dalle_model::Device;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_train::progress::bar;
use image::RgbImage;

use super::output::{OutputArgs, first_of, percent};
use super::provenance::Provenance;
use super::selection::SelectionArgs;

/// Rows of the report's table of the worst images.
const WORST: usize = 20;

/// Arguments of `dalle eval reconstruction`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder with encoder and decoder.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    outputs: OutputArgs,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle eval reconstruction`.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.selection.data)?;
    let selection = args.selection.select(&dataset)?;
    let folder = ModelFolder::open(&args.model)?;
    let provenance = args.selection.record(&selection, Provenance::new(&[&dataset])).model(&folder)?;
    let Reconstructed { result, originals, reconstructions } =
        reconstruct(&folder, &selection.examples, &args.device.open()?)?;
    let differences: Vec<RgbImage> =
        originals.iter().zip(&reconstructions).map(|(a, b)| difference(a, b)).collect();
    let captions: Vec<String> = selection
        .examples
        .iter()
        .zip(&result.each)
        .map(|(example, quality)| {
            format!("{} · {:.1} dB", example.captions.main(), psnr(quality.squared_error))
        })
        .collect();
    let cells: Vec<Cell> = (0..originals.len())
        .map(|index| Cell {
            images: vec![&originals[index], &reconstructions[index], &differences[index]],
            caption: &captions[index],
        })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "reconstruction of {} images: PSNR {:.2} dB, SSIM {:.4}; {:.1} % of {} codebook entries used, perplexity {:.0}; \
         see {written}",
        result.images,
        result.psnr,
        result.ssim,
        100.0 * result.usage,
        result.vocab,
        result.perplexity,
    )?;
    Ok(())
}

/// The quality of reconstructions, with the images before and after.
pub struct Reconstructed {
    /// The quality.
    pub result: Reconstruction,
    /// The examples' images at the model's image size.
    pub originals: Vec<RgbImage>,
    /// Their reconstructions.
    pub reconstructions: Vec<RgbImage>,
}

/// Encodes and decodes the images of `examples`.
///
/// # Errors
/// The folder has no encoder or decoder, or the device fails.
pub fn reconstruct(folder: &ModelFolder, examples: &[&Example], device: &Device) -> Result<Reconstructed> {
    let (encoder, decoder) = (folder.encoder(device)?, folder.decoder(device)?);
    let originals: Vec<RgbImage> =
        examples.iter().map(|example| resized(example, folder.config.image_size)).collect::<Result<_>>()?;
    let images: Vec<(&str, &RgbImage)> =
        examples.iter().map(|example| example.key.as_str()).zip(&originals).collect();
    let progress = bar(images.len() as u64, "reconstructing images");
    let (result, reconstructions) =
        evaluate(&encoder, &decoder, folder.config.dvae.vocab, &images, || progress.inc(1))?;
    progress.finish_and_clear();
    Ok(Reconstructed { result, originals, reconstructions })
}

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &Reconstruction, shown: &[Cell]) -> Result<Report> {
    let mut report = Report::new(
        "Reconstruction quality of the dVAE",
        "Each image is encoded into a grid of tokens and decoded again. The prior cannot recover what is lost here.",
    );
    report.figures(&[
        (
            "PSNR (dB)",
            format!("{:.2}", result.psnr),
            "from the mean squared error over all images; higher is better",
        ),
        ("SSIM", format!("{:.4}", result.ssim), "mean over the images' luma; 1 means identical"),
        ("Codebook usage", percent(result.usage), &format!("of {} entries", result.vocab)),
        ("Codebook perplexity", format!("{:.0}", result.perplexity), "effective number of entries in use"),
        ("Images", result.images.to_string(), "chosen by hash"),
    ]);
    report.section(
        "Images",
        &format!(
            "Left: the original. Middle: the reconstruction. Right: their difference, amplified {DIFFERENCE_GAIN} times; black \
             means no loss.{}",
            first_of(shown, result.images)
        ),
    );
    report.images(&["original", "reconstruction", "difference"], shown)?;
    let mut worst: Vec<_> = result.each.iter().collect();
    worst.sort_by(|a, b| b.squared_error.total_cmp(&a.squared_error));
    let rows: Vec<Vec<String>> = worst
        .iter()
        .take(WORST)
        .map(|quality| {
            vec![
                quality.key.clone(),
                format!("{:.2}", psnr(quality.squared_error)),
                format!("{:.4}", quality.ssim),
            ]
        })
        .collect();
    report.section("Largest losses", "The images with the largest squared error.");
    report.table("PSNR and SSIM of single images, worst first", &["image", "PSNR (dB)", "SSIM"], &rows);
    Ok(report)
}
