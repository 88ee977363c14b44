//! `dalle eval reconstruction`: what the dVAE's round trip loses.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_native::device::DeviceName;
use image::RgbImage;

use dalle_data::Dataset;
use dalle_eval::at_size;
use dalle_eval::reconstruction::{DIFFERENCE_GAIN, Reconstruction, difference, measure};
use dalle_eval::report::Report;
use dalle_eval::sheet::Cell;
use dalle_eval::similarity::psnr;
use dalle_native::ModelFolder;
use dalle_train::training::bar;

use super::provenance::Provenance;
use super::{Outputs, Selection, first_of, percent};

/// Arguments of `dalle eval reconstruction`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder with encoder and decoder.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    outputs: Outputs,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Measures and writes.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.selection.data)?;
    let (examples, left_out) = args.selection.choose(&dataset)?;
    let folder = ModelFolder::open(&args.model)?;
    let provenance = args.selection.told(Provenance::new(&[&dataset]), &left_out).of(&folder)?;
    let device = args.device.open()?;
    let (encoder, decoder) = (folder.encoder(&device)?, folder.decoder(&device)?);
    let originals: Vec<RgbImage> =
        examples.iter().map(|example| at_size(example, folder.config.image_size)).collect();
    let pictures: Vec<(&str, &RgbImage)> =
        examples.iter().map(|example| example.key.as_str()).zip(&originals).collect();
    let progress = bar(pictures.len() as u64, "reconstructing pictures");
    let (result, returned) =
        measure(&encoder, &decoder, folder.config.dvae.vocab, &pictures, || progress.inc(1))?;
    progress.finish_and_clear();
    let differences: Vec<RgbImage> = originals.iter().zip(&returned).map(|(a, b)| difference(a, b)).collect();
    let captions: Vec<String> = examples
        .iter()
        .zip(&result.each)
        .map(|(example, loss)| format!("{} · {:.1} dB", example.captions.main(), psnr(loss.squared_error)))
        .collect();
    let cells: Vec<Cell> = (0..pictures.len())
        .map(|at| Cell {
            images: vec![&originals[at], &returned[at], &differences[at]],
            caption: &captions[at],
        })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
    writeln!(
        std::io::stdout(),
        "reconstruction of {} pictures: PSNR {:.2} dB, SSIM {:.4}; {:.1} % of {} codebook entries used, perplexity {:.0}; \
         see {written}",
        result.pictures,
        result.psnr,
        result.ssim,
        100.0 * result.usage,
        result.vocab,
        result.perplexity,
    )?;
    Ok(())
}

fn page(result: &Reconstruction, shown: &[Cell]) -> Result<Report> {
    let mut page = Report::new(
        "What the dVAE's round trip loses",
        "Each picture was turned into its grid of tokens and back. What is lost here, no prior can bring back.",
    );
    page.figures(&[
        (
            "PSNR (dB)",
            format!("{:.2}", result.psnr),
            "of the mean squared error over all pictures; higher is better",
        ),
        ("SSIM", format!("{:.4}", result.ssim), "mean over the pictures, of their luma; 1 is the same"),
        ("Codebook used", percent(result.usage), &format!("of {} entries", result.vocab)),
        (
            "Perplexity",
            format!("{:.0}", result.perplexity),
            "as many entries, equally used, would say as much",
        ),
        ("Pictures", result.pictures.to_string(), "chosen by hash"),
    ]);
    page.section(
        "The pictures",
        &format!(
            "Left the original, in the middle what came back, right the difference, {DIFFERENCE_GAIN} times as strong: black is \
             what was kept.{}",
            first_of(shown, result.pictures)
        ),
    );
    page.pictures(&["original", "reconstruction", "difference"], shown)?;
    let mut worst: Vec<_> = result.each.iter().collect();
    worst.sort_by(|a, b| b.squared_error.total_cmp(&a.squared_error));
    let rows: Vec<Vec<String>> = worst
        .iter()
        .take(20)
        .map(|loss| {
            vec![loss.key.clone(), format!("{:.2}", psnr(loss.squared_error)), format!("{:.4}", loss.ssim)]
        })
        .collect();
    page.section("What is lost most", "The pictures with the largest squared error.");
    page.table("PSNR and SSIM of single pictures, worst first", &["picture", "PSNR (dB)", "SSIM"], &rows);
    Ok(page)
}
