//! `dalle eval fd`: Fréchet distance and Inception Score between true and sampled pictures.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use image::RgbImage;

use dalle_data::Dataset;
use dalle_eval::fidelity::{Fidelity, RADII, Row, measure};
use dalle_eval::report::Report;
use dalle_eval::sampling::{Model, Order};
use dalle_eval::sheet::Cell;
use dalle_eval::{at_size, draw, features};
use dalle_native::ModelFolder;
use dalle_train::training::bar;

use super::super::sampling::DeviceArgs;
use super::provenance::Provenance;
use super::{Outputs, Sampling, Selection, first_of, values};

/// Arguments of `dalle eval fd`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Weights of the network that sees the features: EfficientNet-Lite0, or Inception v3 under torchvision's names;
    /// or a model folder with a contrastive model, whose own features they are then.
    #[arg(long)]
    features: PathBuf,
    /// Standard deviations of the blur in pixels, with commas between them.
    #[arg(long, value_delimiter = ',', default_values_t = RADII, value_parser = values::radius)]
    radii: Vec<f32>,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Measures and writes.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(mut args: Args) -> Result<()> {
    args.radii.sort_by(f32::total_cmp);
    args.radii.dedup();
    let args = &args;
    args.outputs.check(&[])?;
    let dataset = Dataset::open(&args.selection.data)?;
    let (examples, left_out) = args.selection.choose(&dataset)?;
    ensure!(examples.len() > 1, "a spread needs at least two pictures; there is one");
    let device = args.on.device.open()?;
    let extractor = features::open(&args.features, &device)?;
    let folder = ModelFolder::open(&args.model)?;
    let (sampling, seed) = (args.sampling.settings(&folder)?, args.sampling.seed);
    let provenance = args
        .selection
        .told(Provenance::new(&[&dataset]), &left_out)
        .with_list("radii", &args.radii)
        .of(&folder)?
        .sampled(sampling, seed, args.on.dtype)
        .judged_by(&args.features)?;
    let mut model = Model::load(&folder, args.on.device, args.on.dtype)?;
    let captions: Vec<String> = examples.iter().map(|example| example.captions.main()).collect();
    // Many pictures may share a caption; each gets a sample of its own.
    let orders: Vec<Order> = captions
        .iter()
        .zip(seed..)
        .map(|(caption, seed)| Order { caption, samples: 1, seed, prefix: &[] })
        .collect();
    let progress = bar(orders.len() as u64, "sampling pictures");
    let samples = draw(&mut model, &orders, sampling, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    let truth: Vec<RgbImage> =
        examples.iter().map(|example| at_size(example, model.config.image_size)).collect();
    let progress = bar((2 * truth.len() * args.radii.len()) as u64, "looking at pictures");
    let [a, b] = [&truth, &samples].map(|pictures| pictures.iter().collect::<Vec<_>>());
    let result = measure(&*extractor, &a, &b, &args.radii, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    let cells: Vec<Cell> = (0..truth.len())
        .map(|at| Cell { images: vec![&truth[at], &samples[at]], caption: &captions[at] })
        .collect();
    let written = args.outputs.write(&result, &provenance, &cells, |shown| page(&result, shown))?;
    let mut out = std::io::stdout();
    for row in &result.rows {
        let (score, truth) = (result.show(row.score), result.show(row.true_score));
        writeln!(
            out,
            "blur {}: {} {:.3}, {} {score} (true pictures {truth})",
            row.radius, result.distance, row.distance, result.score
        )?;
    }
    writeln!(out, "{} pictures on each side; see {written}", result.pictures)?;
    Ok(())
}

fn page(result: &Fidelity, shown: &[Cell]) -> Result<Report> {
    let mut page = Report::new(
        &format!("{} of sampled pictures", result.distance),
        "Do the samples, taken together, look like the true pictures? Both sides are blurred more and more: what is left of the \
         distance then is not a matter of fine detail.",
    );
    let few = if result.pictures > result.features {
        "on each side".to_owned()
    } else {
        format!(
            "on each side: no more than the {} features, so compare only with figures from as many",
            result.features
        )
    };
    let (first, last) = (result.rows.first(), result.rows.last());
    let blurred = last.map_or(String::new(), |row| format!("at a blur of {} pixels", row.radius));
    let value =
        |row: Option<&Row>, of: fn(&Row) -> f64| row.map_or(String::new(), |row| format!("{:.2}", of(row)));
    page.figures(&[
        (result.distance, value(first, |row| row.distance), "0 would be the same distribution"),
        (result.distance, value(last, |row| row.distance), &blurred),
        ("Pictures", result.pictures.to_string(), &few),
    ]);
    page.section(
        "Over the blur",
        &format!("Features and classes are those of {}. The blur is a Gaussian; its radius is the standard deviation.", result.network),
    );
    let points: Vec<(f64, f64)> = result.rows.iter().map(|row| (row.radius.into(), row.distance)).collect();
    page.chart(&format!("{} over the radius of the blur", result.distance), "radius (pixels)", &points);
    let rows: Vec<Vec<String>> = result
        .rows
        .iter()
        .map(|row| {
            let distance = format!("{:.3}", row.distance);
            vec![row.radius.to_string(), distance, result.show(row.score), result.show(row.true_score)]
        })
        .collect();
    let (samples, truth) = (format!("{}, samples", result.score), format!("{}, true", result.score));
    page.table(
        "Distance (lower is better) and scores (higher is better) at each radius",
        &["radius", result.distance, &samples, &truth],
        &rows,
    );
    let left = first_of(shown, result.pictures);
    page.section("The pictures", &format!("Left a true picture, right the sample of its caption.{left}"));
    page.pictures(&["true picture", "sample"], shown)?;
    Ok(page)
}
