//! `dalle eval fd`: Fréchet distance and Inception Score of samples against true images.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use dalle_data::Dataset;
use dalle_eval::features;
use dalle_eval::fidelity::{BlurRow, Fidelity, RADII, evaluate};
use dalle_eval::generator::{Generator, SampleSpec};
use dalle_eval::report::Report;
use dalle_eval::sheet::Cell;
use dalle_eval::{resized, sample_images};
use dalle_native::ModelFolder;
use dalle_shared::SamplingSettings;
use dalle_train::progress::bar;
use image::RgbImage;

use super::super::options::DeviceArgs;
use super::caption_args::SeededSampling;
use super::output::{OutputArgs, first_of};
use super::provenance::Provenance;
use super::selection::SelectionArgs;
use super::values;

/// Arguments of `dalle eval fd`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Feature network: weights of EfficientNet-Lite0, or of Inception v3 with torchvision's names; or a model folder, for the
    /// features of its CLIP.
    #[arg(long)]
    features: PathBuf,
    /// Blur radii (standard deviations in pixels), separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = RADII, value_parser = values::radius)]
    radii: Vec<f32>,
    #[command(flatten)]
    sampling: SeededSampling,
    #[command(flatten)]
    outputs: OutputArgs,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle eval fd`.
pub fn run(mut args: Args) -> Result<()> {
    args.radii.sort_by(f32::total_cmp);
    args.radii.dedup();
    let args = &args;
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.selection.data)?;
    let selection = args.selection.select(&dataset)?;
    let examples = &selection.examples;
    ensure!(examples.len() > 1, "a Fréchet distance needs at least two images, got one");
    let extractor = features::open(&args.features, &args.on.device.open()?)?;
    let folder = ModelFolder::open(&args.model)?;
    let settings = args.sampling.settings(&folder)?;
    let provenance = args
        .selection
        .record(&selection, Provenance::new(&[&dataset]))
        .list("radii", &args.radii)
        .model(&folder)?
        .sampling(settings, args.sampling.seed, args.on.dtype)
        .weights(&args.features)?;
    let captions: Vec<String> = examples.iter().map(|example| example.captions.main()).collect();
    let samples = sample(args, &folder, &captions, settings)?;
    let truth: Vec<RgbImage> =
        examples.iter().map(|example| resized(example, folder.config.image_size)).collect::<Result<_>>()?;
    let progress = bar((2 * truth.len() * args.radii.len()) as u64, "extracting features");
    let [a, b] = [&truth, &samples].map(|images| images.iter().collect::<Vec<_>>());
    let result = evaluate(&*extractor, &a, &b, &args.radii, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = (0..truth.len())
        .map(|index| Cell { images: vec![&truth[index], &samples[index]], caption: &captions[index] })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| report(&result, shown))?;
    let mut out = std::io::stdout();
    for row in &result.rows {
        let (score, true_score) = (result.format_score(row.score), result.format_score(row.true_score));
        writeln!(
            out,
            "blur {}: {} {:.3}, {} {score} (true images {true_score})",
            row.radius, result.distance, row.distance, result.score
        )?;
    }
    writeln!(out, "{} images on each side; see {written}", result.images)?;
    Ok(())
}

/// One sample per caption. Captions may repeat, so each has its own seed.
fn sample(
    args: &Args,
    folder: &ModelFolder,
    captions: &[String],
    settings: SamplingSettings,
) -> Result<Vec<RgbImage>> {
    let mut generator = Generator::load(folder, args.on.device, args.on.dtype)?;
    let seeds = (0..).map(|index| args.sampling.seed.wrapping_add(index));
    let specs: Vec<SampleSpec> = captions
        .iter()
        .zip(seeds)
        .map(|(caption, seed)| SampleSpec { caption, samples: 1, seed, prefix: &[] })
        .collect();
    let progress = bar(specs.len() as u64, "sampling images");
    let samples = sample_images(&mut generator, &specs, settings, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    Ok(samples)
}

/// Builds the report.
///
/// # Errors
/// An image cannot be encoded.
pub fn report(result: &Fidelity, shown: &[Cell]) -> Result<Report> {
    let mut report = Report::new(
        &format!("{} of samples", result.distance),
        "The distance between the distributions of samples and true images. Both are blurred with increasing radius: the distance that \
         remains is not a matter of fine detail.",
    );
    let enough = if result.images > result.features {
        "on each side".to_owned()
    } else {
        format!(
            "on each side: no more than the {} features, so compare only results with the same number",
            result.features
        )
    };
    let (first, last) = (result.rows.first(), result.rows.last());
    let blurred = last.map_or(String::new(), |row| format!("at a blur of {} pixels", row.radius));
    let distance = |row: Option<&BlurRow>| row.map_or(String::new(), |row| format!("{:.2}", row.distance));
    report.figures(&[
        (result.distance, distance(first), "0 means equal distributions"),
        (result.distance, distance(last), &blurred),
        ("Images", result.images.to_string(), &enough),
    ]);
    report.section(
        "Over the blur",
        &format!(
            "Features and classes are those of {}. The blur is a Gaussian whose standard deviation is the radius.",
            result.network
        ),
    );
    let points: Vec<(f64, f64)> = result.rows.iter().map(|row| (row.radius.into(), row.distance)).collect();
    report.chart(&format!("{} over the radius of the blur", result.distance), "radius (pixels)", &points)?;
    let rows: Vec<Vec<String>> = result
        .rows
        .iter()
        .map(|row| {
            vec![
                row.radius.to_string(),
                format!("{:.3}", row.distance),
                result.format_score(row.score),
                result.format_score(row.true_score),
            ]
        })
        .collect();
    let (samples, truth) = (format!("{}, samples", result.score), format!("{}, true images", result.score));
    report.table(
        "Distance (lower is better) and score (higher is better) at each radius",
        &["radius", result.distance, &samples, &truth],
        &rows,
    );
    let first = first_of(shown, result.images);
    report.section("Images", &format!("Left: a true image. Right: the sample of its caption.{first}"));
    report.images(&["true image", "sample"], shown)?;
    Ok(report)
}
