//! `dalle eval composites`: two objects on their sides, and numbers of objects.

use anyhow::{Error, Result};
use dalle_eval::catalogue::{Catalogue, Missing};
use dalle_eval::composites::{Composites, ObjectFeatures, Recognised, pairs, recognise};
use dalle_eval::counts::{self, Counter, number_of};
use dalle_eval::feature_bank::FeatureBank;
use dalle_eval::report::Report;
use dalle_eval::resized;
use image::RgbImage;
use serde_json::{Value, json};

use super::output::{Measured, Picture, cells, first_of, percent};
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
    #[arg(long, default_value_t = AMONG, value_parser = values::count())]
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
    let mut parts = Parts {
        report: Report::new(
            "Composites",
            "Captions ask for two objects and where they stand, or for two to four copies of one object.",
        ),
        pictures: Vec::new(),
        summary: Vec::new(),
    };
    let mut objects = ObjectFeatures::default();
    let mut result = serde_json::Map::new();
    let mut missing: Vec<Error> = Vec::new();
    let measured = [
        ("held_out_pairs", parts.pairs(catalogue, session, (bank, &mut objects), counts, best_of, true)),
        ("training_pairs", parts.pairs(catalogue, session, (bank, &mut objects), counts, best_of, false)),
        ("counts", parts.counts(catalogue, session, counts.captions, best_of)),
    ];
    for (name, part) in measured {
        match part {
            Ok(value) => drop(result.insert(name.to_owned(), value)),
            Err(error) if error.is::<Missing>() => missing.push(error),
            Err(error) => return Err(error),
        }
    }
    if result.is_empty() {
        let reasons: Vec<String> = missing.iter().map(ToString::to_string).collect();
        return Err(Missing(reasons.join("; ")).into());
    }
    let Parts { mut report, pictures, summary } = parts;
    let shown = cells(&pictures);
    report.section(
        "Samples",
        &format!(
            "Left: the true image. Right: the best sample, and what is recognised in it.{}",
            first_of(&shown, pictures.len())
        ),
    );
    report.images(&["true image", "sample"], &shown)?;
    Ok(Measured { result: result.into(), report, pictures, summary })
}

/// What the parts of the metric add to.
struct Parts {
    report: Report,
    pictures: Vec<Picture>,
    summary: Vec<String>,
}

impl Parts {
    fn pairs(
        &mut self,
        catalogue: &Catalogue,
        session: &mut Session,
        (bank, objects): (&FeatureBank, &mut ObjectFeatures),
        counts: Counts,
        best_of: usize,
        held_out: bool,
    ) -> Result<Value> {
        let pairs = pairs(catalogue, held_out, counts.captions, counts.among)?;
        let captions: Vec<String> = pairs.iter().map(|pair| catalogue.prompt(pair.image).caption).collect();
        let size = session.image_size();
        let truth: Vec<RgbImage> =
            pairs.iter().map(|pair| resized(pair.image.example, size)).collect::<Result<_>>()?;
        let samples = session.sample(&captions, best_of)?;
        let mut recognise = |images: Vec<&RgbImage>| recognise(&pairs, &images, bank, objects);
        let of_truth = recognise(truth.iter().collect())?;
        let of_one = recognise(samples.iter().map(|sample| &sample.one).collect())?;
        let of_best = recognise(samples.iter().map(|sample| &sample.best).collect())?;
        let result = Composites {
            network: bank.extractor.names().network,
            among: counts.among,
            best_of: session.best_of(best_of),
            truth: Recognised::of(&of_truth),
            one: Recognised::of(&of_one),
            best: Recognised::of(&of_best),
            each: captions.iter().cloned().zip(of_best.iter().copied()).collect(),
        };
        for ((truth, sample), (caption, seen)) in truth.into_iter().zip(samples).zip(&result.each) {
            let caption = format!("{caption} · {}", seen.words());
            self.pictures.push(Picture { images: vec![truth, sample.best], caption });
        }
        self.report_pairs(&result, held_out);
        Ok(json!(result))
    }

    fn report_pairs(&mut self, result: &Composites, held_out: bool) {
        let which =
            if held_out { "Pairs that were never shown together" } else { "Pairs of the training split" };
        self.report.section(
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
        self.report.table(
            which,
            &["images", "number", "both objects", "of these, sides right", "at least one object"],
            &rows,
        );
        self.summary.push(format!(
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

    fn counts(
        &mut self,
        catalogue: &Catalogue,
        session: &mut Session,
        count: usize,
        best_of: usize,
    ) -> Result<Value> {
        let counter = Counter::measure(catalogue, session.image_size())?;
        let prompts = counts::prompts(catalogue, count);
        let captions: Vec<String> = prompts.iter().map(|image| catalogue.prompt(*image).caption).collect();
        let samples = session.sample(&captions, best_of)?;
        let asked: Vec<usize> = prompts.iter().map(|image| number_of(image).unwrap_or_default()).collect();
        let one: Vec<&RgbImage> = samples.iter().map(|sample| &sample.one).collect();
        let best: Vec<&RgbImage> = samples.iter().map(|sample| &sample.best).collect();
        let (result, read) = counts::evaluate(&counter, &asked, &one, &best, session.best_of(best_of));
        for ((image, caption), (sample, read)) in prompts.iter().zip(&captions).zip(samples.iter().zip(&read))
        {
            let truth = resized(image.example, session.image_size())?;
            let images = vec![truth, sample.best.clone()];
            self.pictures.push(Picture { images, caption: format!("{caption} · read as {read}") });
        }
        self.report.section(
            "Numbers of objects",
            "The number is read from where an image has foreground: that of the nearest mean (by cosine) of true images with one to four objects.",
        );
        self.report.figures(&[
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
        self.report.table(
            "Best samples by the number asked for (rows) and read (columns)",
            &["asked for", "captions", "1", "2", "3", "4"],
            &rows,
        );
        self.summary.push(format!(
            "counts: {} of {} samples have the number asked for (best of {}; the reading is right for {} of {} true images)",
            percent(result.best),
            result.captions,
            result.best_of,
            percent(result.true_images_right),
            result.true_images
        ));
        Ok(json!(result))
    }
}
