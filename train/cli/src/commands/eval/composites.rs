//! `dalle eval composites`: whether samples show two objects on the right sides, and the right number of objects.

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_eval::catalogue::Catalogue;
use dalle_eval::composites::{Composites, ObjectFeatures, Recognised, pairs, recognise};
use dalle_eval::counts::{self, Counter, number_of};
use dalle_eval::feature_bank::FeatureBank;
use dalle_eval::report::Report;
use dalle_eval::resized;
use image::RgbImage;
use serde_json::{Value, json};

use super::output::{Measured, percent};
use super::parts::Parts;
use super::session::{BestOfArgs, Session, SessionArgs, run as run_session};
use super::values;

/// Default of --among.
pub const AMONG: usize = 20;

/// Arguments of `dalle eval composites`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    best_of: BestOfArgs,
    #[command(flatten)]
    counts: Counts,
}

/// Numbers of images.
#[derive(Clone, Copy, clap::Args)]
pub struct Counts {
    /// Captions of each kind, chosen by hash: held-out pairs, training pairs, numbers of objects.
    #[arg(long, default_value_t = 100, value_parser = values::count())]
    pub captions: usize,
    /// Number of drawings that each half of an image is compared with, among them the two objects.
    #[arg(long, default_value_t = AMONG, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub among: usize,
}

/// Runs `dalle eval composites`.
pub fn run(args: &Args) -> Result<()> {
    let (counts, best_of) = (args.counts, args.best_of.best_of);
    run_session(
        &args.session,
        |provenance| {
            provenance
                .option("captions", counts.captions)
                .option("among", counts.among)
                .option("best-of", best_of)
        },
        |catalogue, session, bank| measure(catalogue, session, bank, counts, best_of),
    )
}

/// Measures pairs and counts, as far as the dataset has them.
///
/// # Errors
/// The dataset has no composites, or the device fails.
pub fn measure(
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &FeatureBank,
    counts: Counts,
    best_of: usize,
) -> Result<Measured> {
    let mut composites = CompositeParts {
        parts: Parts::new(Report::new(
            "Composites",
            "Captions ask for two objects and where they stand, or for two to four copies of one object.",
        )),
        objects: ObjectFeatures::default(),
        catalogue,
        session,
        bank,
        counts,
        best_of,
    };
    let part = composites.pairs(true);
    composites.parts.add("held_out_pairs", part)?;
    let part = composites.pairs(false);
    composites.parts.add("training_pairs", part)?;
    let part = composites.counts();
    composites.parts.add("counts", part)?;
    composites
        .parts
        .finish("Left: the true image. Right: the best sample, and what is recognised in it.", "true image")
}

/// The metric in progress.
struct CompositeParts<'a> {
    parts: Parts,
    /// Features of the drawings that objects are compared with.
    objects: ObjectFeatures,
    catalogue: &'a Catalogue,
    session: &'a mut Session,
    bank: &'a FeatureBank,
    counts: Counts,
    best_of: usize,
}

impl CompositeParts<'_> {
    fn pairs(&mut self, held_out: bool) -> Result<Value> {
        let Self { parts, objects, catalogue, session, bank, counts, best_of } = self;
        let pairs = pairs(catalogue, held_out, counts.captions, counts.among)?;
        let captions: Vec<String> = pairs.iter().map(|pair| catalogue.prompt(pair.image).caption).collect();
        let size = session.image_size();
        let truth: Vec<RgbImage> =
            pairs.iter().map(|pair| resized(pair.image.example, size)).collect::<Result<_>>()?;
        let samples = session.sample(&captions, *best_of)?;
        let mut recognise = |images: Vec<&RgbImage>| recognise(&pairs, &images, bank, objects);
        let of_truth = recognise(truth.iter().collect())?;
        let of_one = recognise(samples.iter().map(|sample| &sample.one).collect())?;
        let of_best = recognise(samples.iter().map(|sample| &sample.best).collect())?;
        let result = Composites {
            network: bank.extractor.names().network,
            among: counts.among,
            best_of: session.best_of(*best_of),
            truth: Recognised::of(&of_truth),
            one: Recognised::of(&of_one),
            best: Recognised::of(&of_best),
            each: captions.iter().cloned().zip(of_best.iter().copied()).collect(),
        };
        for ((truth, sample), (caption, seen)) in truth.into_iter().zip(samples).zip(&result.each) {
            parts.compare(truth, sample.best, caption, seen.words());
        }
        report_pairs(parts, &result, held_out);
        Ok(json!(result))
    }

    fn counts(&mut self) -> Result<Value> {
        let Self { parts, catalogue, session, counts: Counts { captions: count, .. }, best_of, .. } = self;
        let counter = Counter::measure(catalogue, session.image_size())?;
        let prompts = counts::prompts(catalogue, *count);
        let captions: Vec<String> = prompts.iter().map(|image| catalogue.prompt(*image).caption).collect();
        let samples = session.sample(&captions, *best_of)?;
        let asked: Vec<usize> = prompts.iter().map(|image| number_of(image).unwrap_or_default()).collect();
        let one: Vec<&RgbImage> = samples.iter().map(|sample| &sample.one).collect();
        let best: Vec<&RgbImage> = samples.iter().map(|sample| &sample.best).collect();
        let (result, read) = counts::evaluate(&counter, &asked, &one, &best, session.best_of(*best_of));
        for ((image, caption), (sample, read)) in prompts.iter().zip(&captions).zip(samples.iter().zip(&read))
        {
            let truth = resized(image.example, session.image_size())?;
            parts.compare(truth, sample.best.clone(), caption, &format!("read as {read}"));
        }
        report_counts(parts, &result);
        Ok(json!(result))
    }
}

fn report_pairs(parts: &mut Parts, result: &Composites, held_out: bool) {
    let which = if held_out { "Pairs that were never shown together" } else { "Pairs of the training split" };
    parts.report.section(
        which,
        &format!(
            "Each half of an image is compared with drawings of the two objects and of {} others in the same style, by the features \
             of {}. It shows the one that is nearest. The row of true images tells how often this is right.",
            result.among.saturating_sub(2),
            result.network
        ),
    );
    let row = |name: String, of: &Recognised| {
        vec![name, of.images.to_string(), percent(of.both), percent(of.sides), percent(of.one)]
    };
    let mut rows =
        vec![row("true images".to_owned(), &result.truth), row("one sample".to_owned(), &result.one)];
    if result.best_of > 1 {
        rows.push(row(format!("best of {}", result.best_of), &result.best));
    }
    parts.report.table(
        which,
        &["images", "number", "both objects", "of these, sides right", "at least one object"],
        &rows,
    );
    parts.summary.push(format!(
        "{}: both objects in {} of {} samples (best of {}), sides right in {} of these (true images: {} and {})",
        if held_out { "held-out pairs" } else { "training pairs" },
        percent(result.best.both),
        result.best.images,
        result.best_of,
        percent(result.best.sides),
        percent(result.truth.both),
        percent(result.truth.sides)
    ));
}

fn report_counts(parts: &mut Parts, result: &counts::Counts) {
    parts.report.section(
        "Numbers of objects",
        "The number is read from where an image has foreground: that of the nearest mean (by cosine) of true images with one to four objects.",
    );
    parts.report.figures(&[
        (
            "Right number",
            percent(result.best),
            &format!("of {} samples, best of {}", result.captions, result.best_of),
        ),
        ("One sample", percent(result.one), "of the first samples"),
        (
            "The reading",
            percent(result.true_images_right),
            &format!("right on {} other true images", result.true_images),
        ),
    ]);
    let rows: Vec<Vec<String>> = result
        .numbers
        .iter()
        .map(|(number, captions, read)| {
            let read = read.iter().map(ToString::to_string);
            [number.to_string(), captions.to_string()].into_iter().chain(read).collect()
        })
        .collect();
    parts.report.table(
        "Best samples by the number asked for (rows) and read (columns)",
        &["asked for", "captions", "1", "2", "3", "4"],
        &rows,
    );
    parts.summary.push(format!(
        "counts: {} of {} samples have the number asked for (best of {}; the reading is right for {} of {} true images)",
        percent(result.best),
        result.captions,
        result.best_of,
        percent(result.true_images_right),
        result.true_images
    ));
}
