//! `dalle eval style`: whether samples have the style and the background that their captions ask for.

use anyhow::Result;
use dalle_data::Example;
use dalle_eval::background::{self, BackgroundAccuracy, Backgrounds};
use dalle_eval::catalogue::{Catalogue, examples};
use dalle_eval::feature_bank::FeatureBank;
use dalle_eval::report::Report;
use dalle_eval::resized;
use dalle_eval::style::{self, StyleAccuracy, StyleClassifier, TrueDrawings};
use dalle_shared::files::ENCODER;
use dalle_train::progress::bar;
use image::RgbImage;
use serde_json::{Value, json};

use super::output::{Measured, percent};
use super::parts::Parts;
use super::reconstruction::reconstruct;
use super::session::{Session, SessionArgs, run as run_session};
use super::values;

/// Arguments of `dalle eval style`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    counts: Counts,
}

/// Numbers of images.
#[derive(Clone, Copy, clap::Args)]
pub struct Counts {
    /// Number of captions that ask for a style, and of captions that ask for a background, chosen by hash.
    #[arg(long, default_value_t = 160, value_parser = values::count())]
    pub captions: usize,
    /// Most true drawings of each style that the classifier is trained on; a third as many test it.
    #[arg(long, default_value_t = 1000, value_parser = values::count())]
    pub drawings: usize,
}

/// Runs `dalle eval style`.
pub fn run(args: &Args) -> Result<()> {
    let counts = args.counts;
    run_session(
        &args.session,
        |provenance| provenance.option("captions", counts.captions).option("drawings", counts.drawings),
        |catalogue, session, bank| measure(catalogue, session, bank, counts),
    )
}

/// Measures styles and backgrounds, as far as the dataset has several.
///
/// # Errors
/// The dataset has neither, or the device fails.
pub fn measure(
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &mut FeatureBank,
    counts: Counts,
) -> Result<Measured> {
    let mut parts = Parts::new(Report::new(
        "Style and background",
        "Captions ask for a style or a background colour of drawings that the model was trained on. Do the samples have it?",
    ));
    let part = styles(catalogue, session, bank, counts, &mut parts);
    parts.add("style", part)?;
    let part = backgrounds(catalogue, session, counts.captions, &mut parts);
    parts.add("background", part)?;
    parts.finish("Left: the true drawing. Right: the sample.", "true drawing")
}

fn styles(
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &mut FeatureBank,
    counts: Counts,
    parts: &mut Parts,
) -> Result<Value> {
    let drawings = TrueDrawings::choose(catalogue, counts.drawings)?;
    let reconstructions = match session.folder.has(ENCODER) {
        true => {
            let test: Vec<&Example> = examples(&drawings.test);
            Some(reconstruct(&session.folder, &test, &session.device)?.reconstructions)
        }
        false => None,
    };
    let progress =
        bar((drawings.train.len() + drawings.test.len()) as u64, "extracting features of true drawings");
    let classifier =
        StyleClassifier::train(&drawings, reconstructions.as_deref(), bank, &session.device, |done| {
            progress.set_position(done as u64);
        })?;
    progress.finish_and_clear();
    let prompts = style::prompts(catalogue, &drawings.styles, counts.captions);
    let captions: Vec<String> = prompts.iter().map(|image| image.styled_caption()).collect();
    let samples = session.sample(&captions, 1)?;
    let asked = drawings.classes(&prompts);
    let images: Vec<&RgbImage> = samples.iter().map(|sample| &sample.one).collect();
    let (accuracy, given) = classifier.evaluate(&drawings.styles, &asked, &images, bank, |_| ())?;
    for (((image, caption), sample), (&asked, &given)) in
        prompts.iter().zip(&captions).zip(&samples).zip(asked.iter().zip(&given))
    {
        let verdict =
            if asked == given { "right".to_owned() } else { format!("looks {}", drawings.styles[given]) };
        let drawing = resized(image.example, session.image_size())?;
        parts.compare(drawing, sample.one.clone(), caption, &verdict);
    }
    report_styles(&accuracy, &mut parts.report);
    parts.summary.push(format!(
        "style: {} of {} samples have the style asked for (the classifier is right for {} of {} held-out true drawings{})",
        percent(accuracy.right),
        accuracy.samples,
        percent(accuracy.classifier.accuracy),
        accuracy.classifier.tested_on,
        accuracy
            .classifier
            .reconstructed
            .map_or(String::new(), |share| format!(", {} after the dVAE", percent(share)))
    ));
    Ok(serde_json::to_value(&accuracy)?)
}

fn report_styles(accuracy: &StyleAccuracy, report: &mut Report) {
    let tested = &accuracy.classifier;
    let mut figures = vec![
        ("Right style", percent(accuracy.right), format!("of {} samples", accuracy.samples)),
        (
            "The classifier",
            percent(tested.accuracy),
            format!("right on {} true drawings of concepts that it was not trained on", tested.tested_on),
        ),
    ];
    if let Some(share) = tested.reconstructed {
        figures.push((
            "After the dVAE",
            percent(share),
            "right on their reconstructions: what the decoder can show".to_owned(),
        ));
    }
    report.section(
        "Style",
        &format!(
            "A linear classifier on the features of {}, trained on {} true drawings, decides which style a sample has.",
            tested.network, tested.trained_on
        ),
    );
    let figures: Vec<(&str, String, &str)> =
        figures.iter().map(|(name, value, meaning)| (*name, value.clone(), meaning.as_str())).collect();
    report.figures(&figures);
    let head: Vec<&str> = ["asked for", "true drawings"]
        .into_iter()
        .chain(accuracy.styles.iter().map(String::as_str))
        .chain(["right"])
        .collect();
    let rows: Vec<Vec<String>> = accuracy
        .styles
        .iter()
        .enumerate()
        .map(|(index, style)| {
            let row = &accuracy.confusion[index];
            let share = row[index] as f64 / row.iter().sum::<usize>().max(1) as f64;
            let counts = row.iter().map(ToString::to_string);
            [style.clone(), percent(tested.per_style[index])]
                .into_iter()
                .chain(counts)
                .chain([percent(share)])
                .collect()
        })
        .collect();
    report.table(
        "Samples by the style asked for (rows) and given (columns); “true drawings” is the classifier's accuracy on them",
        &head,
        &rows,
    );
}

fn backgrounds(
    catalogue: &Catalogue,
    session: &mut Session,
    count: usize,
    parts: &mut Parts,
) -> Result<Value> {
    let size = session.image_size();
    let backgrounds = Backgrounds::measure(catalogue, size)?;
    let prompts = background::prompts(catalogue, count);
    let captions: Vec<String> = prompts.iter().map(|image| image.caption()).collect();
    let samples = session.sample(&captions, 1)?;
    let asked: Vec<usize> =
        prompts.iter().map(|image| backgrounds.index(image.about.background()).unwrap_or_default()).collect();
    let images: Vec<&RgbImage> = samples.iter().map(|sample| &sample.one).collect();
    let (accuracy, given) = backgrounds.evaluate(&asked, &images);
    for (((image, caption), sample), (asked, given)) in
        prompts.iter().zip(&captions).zip(&samples).zip(asked.iter().zip(&given))
    {
        let verdict = match given {
            Some(given) if given == asked => "right".to_owned(),
            Some(given) => format!("has {}", backgrounds.names[*given]),
            None => "no uniform background".to_owned(),
        };
        let drawing = resized(image.example, size)?;
        parts.compare(drawing, sample.one.clone(), caption, &verdict);
    }
    report_backgrounds(&accuracy, &mut parts.report);
    parts.summary.push(format!(
        "background: {} of {} samples have the background asked for (the measurement is right for {} of {} other true drawings)",
        percent(accuracy.right),
        accuracy.samples,
        percent(accuracy.true_drawings_right),
        accuracy.true_drawings
    ));
    Ok(json!(accuracy))
}

fn report_backgrounds(accuracy: &BackgroundAccuracy, report: &mut Report) {
    report.section(
        "Background",
        "The colour that most of a sample's border is nearest to, among the backgrounds of the dataset as they are measured on true \
         drawings.",
    );
    report.figures(&[
        ("Right background", percent(accuracy.right), &format!("of {} samples", accuracy.samples)),
        (
            "The measurement",
            percent(accuracy.true_drawings_right),
            &format!("right on {} other true drawings", accuracy.true_drawings),
        ),
    ]);
    let rows: Vec<Vec<String>> = accuracy
        .backgrounds
        .iter()
        .filter(|row| row.samples > 0)
        .map(|row| {
            let share = percent(row.right as f64 / row.samples as f64);
            vec![row.background.clone(), row.samples.to_string(), row.right.to_string(), share]
        })
        .collect();
    report.table("Samples by the background asked for", &["asked for", "samples", "right", "share"], &rows);
}
