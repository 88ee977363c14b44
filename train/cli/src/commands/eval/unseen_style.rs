//! `dalle eval unseen-style`: concepts in a style that training never shows them in, and the nearest training images.

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use dalle_eval::catalogue::Catalogue;
use dalle_eval::feature_bank::FeatureBank;
use dalle_eval::report::Report;
use dalle_eval::unseen_style::{COSINES, Kinship, Nearest, Shares, UnseenStyle, evaluate, questions};
use dalle_train::progress::bar;
use serde_json::json;

use super::output::{Measured, Picture, cells, first_of, percent};
use super::session::{BestOfArgs, Session, SessionArgs, run as run_session};
use super::values;

/// Default of --among.
pub const AMONG: usize = 100;

/// Arguments of `dalle eval unseen-style`.
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
    /// Number of held-out drawings, chosen by hash [default: all].
    #[arg(long, value_parser = values::count())]
    pub captions: Option<usize>,
    /// Number of drawings of the same style that each held-out one is told apart from, itself included.
    #[arg(long, default_value_t = AMONG, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub among: usize,
}

/// Runs `dalle eval unseen-style`.
pub fn run(args: &Args) -> Result<()> {
    let (counts, best_of) = (args.counts, args.best_of.best_of);
    run_session(
        &args.session,
        |provenance| {
            let provenance = match counts.captions {
                Some(captions) => provenance.option("captions", captions),
                None => provenance,
            };
            provenance.option("among", counts.among).option("best-of", best_of)
        },
        |catalogue, session, bank| measure(catalogue, session, bank, counts, best_of),
    )
}

/// Measures retrieval within a style, and the nearest training images.
///
/// # Errors
/// The dataset holds out no styles, or the device fails.
pub fn measure(
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &mut FeatureBank,
    counts: Counts,
    best_of: usize,
) -> Result<Measured> {
    let questions = questions(catalogue, counts.captions, counts.among)?;
    let captions: Vec<String> = questions.iter().map(|question| question.drawing.styled_caption()).collect();
    let samples = session.sample(&captions, best_of)?;
    let best_of = session.best_of(best_of);
    let progress = bar(0, "extracting features of training images");
    progress.set_length(catalogue.training().filter(|image| image.about.is_drawing()).count() as u64);
    let (result, images) =
        evaluate(catalogue, &questions, &samples, best_of, bank, &session.device, |done| {
            progress.set_position(done as u64);
        })?;
    progress.finish_and_clear();
    let pictures: Vec<Picture> = result
        .nearest
        .iter()
        .zip(images)
        .map(|(nearest, images)| Picture {
            images: vec![images.drawing, images.sample, images.train],
            caption: format!("{:.3} · {} · {}", nearest.cosine, nearest.caption, words(nearest.kinship)),
        })
        .collect();
    let report = report(&result, &pictures)?;
    let line = |name: &str, shares: Shares| {
        format!(
            "unseen style, {name}: the held-out drawing is the nearest of {} in its style for {} of {} captions by features, {} by \
             pixels",
            result.among,
            percent(shares.features_top_1),
            result.captions,
            percent(shares.pixels_top_1)
        )
    };
    let mut summary = vec![line("one sample", result.one)];
    if best_of > 1 {
        summary.push(line(&format!("best of {best_of}"), result.best));
    }
    let (mean, held_out) = means(&result);
    summary.push(format!(
        "nearest training image: mean cosine {mean:.3} of samples, {held_out:.3} of the held-out drawings themselves"
    ));
    Ok(Measured { result: json!(result), report, pictures, summary })
}

/// Mean cosines of samples, and of held-out drawings, with their nearest training images.
fn means(result: &UnseenStyle) -> (f64, f64) {
    let mean = |of: fn(&Nearest) -> f32| {
        result.nearest.iter().map(|nearest| f64::from(of(nearest))).sum::<f64>()
            / result.nearest.len().max(1) as f64
    };
    (mean(|nearest| nearest.cosine), mean(|nearest| nearest.held_out_cosine))
}

fn words(kinship: Kinship) -> &'static str {
    match kinship {
        Kinship::SameConcept => "nearest: same concept, other style",
        Kinship::SameStyle => "nearest: same style, other concept",
        Kinship::Neither => "nearest: other concept and style",
    }
}

fn report(result: &UnseenStyle, pictures: &[Picture]) -> Result<Report> {
    let mut report = Report::new(
        "Concepts in an unseen style",
        "The model was trained on each of these concepts, but never in this style. Is the sample the drawing that was held out, and \
         which training image is it nearest to?",
    );
    let chance = percent(1.0 / result.among.max(1) as f64);
    let (mean, held_out) = means(result);
    let best =
        if result.best_of > 1 { format!("best of {}", result.best_of) } else { "one sample".to_owned() };
    report.figures(&[
        (
            "Retrieval by features",
            percent(result.best.features_top_1),
            &format!("top-1 among {} drawings of the style, {best}; chance is {chance}", result.among),
        ),
        (
            "Retrieval by pixels",
            percent(result.best.pixels_top_1),
            &format!("top-1 among {} drawings of the style, {best}; chance is {chance}", result.among),
        ),
        ("Nearest training image", format!("{mean:.3}"), "mean cosine of the samples with it"),
        ("Held-out drawings", format!("{held_out:.3}"), "mean cosine of the true drawings with theirs"),
        ("Captions", result.captions.to_string(), "chosen by hash"),
    ]);
    report.section(
        "Retrieval within a style",
        &format!(
            "Each sample is compared with the held-out drawing and {} others in its style: by pixels (L2 of 32×32 RGB), and by the \
             features of {} (cosine).",
            result.among.saturating_sub(1),
            result.network
        ),
    );
    let row = |name: String, shares: &Shares| {
        let Shares { pixels_top_1, pixels_top_5, features_top_1, features_top_5 } = *shares;
        let shares = [pixels_top_1, pixels_top_5, features_top_1, features_top_5].map(percent);
        std::iter::once(name).chain(shares).collect::<Vec<String>>()
    };
    let mut rows = vec![row("one sample".to_owned(), &result.one)];
    if result.best_of > 1 {
        rows.push(row(format!("best of {}", result.best_of), &result.best));
    }
    report.table(
        "Share of samples whose own drawing is the nearest, or among the nearest five",
        &["samples", "pixels, top-1", "top-5", "features, top-1", "top-5"],
        &rows,
    );
    report.section(
        "Nearest training images",
        &format!(
            "By the features of {}, among {} training drawings. A sample that is nearer to a training image than held-out drawings \
             are to theirs may be a copy.",
            result.network, result.training_images
        ),
    );
    let count = |wanted: &dyn Fn(&Nearest) -> bool| {
        let part = result.nearest.iter().filter(|nearest| wanted(nearest)).count();
        percent(part as f64 / result.nearest.len().max(1) as f64)
    };
    let rows: Vec<Vec<String>> = COSINES
        .iter()
        .map(|&cosine| {
            vec![
                format!("{cosine}"),
                count(&|nearest| nearest.cosine >= cosine),
                count(&|nearest| nearest.held_out_cosine >= cosine),
                count(&|nearest| nearest.own_cosine >= cosine),
            ]
        })
        .collect();
    report.table(
        "Shares with a cosine of at least this value",
        &[
            "cosine",
            "sample and training image",
            "held-out drawing and training image",
            "sample and held-out drawing",
        ],
        &rows,
    );
    let kinships = [Kinship::SameConcept, Kinship::SameStyle, Kinship::Neither];
    let rows =
        kinships.map(|kinship| vec![words(kinship).to_owned(), count(&|nearest| nearest.kinship == kinship)]);
    report.table("What the training image nearest to a sample shows", &["nearest", "share"], &rows);
    let shown = cells(pictures);
    let first = first_of(&shown, pictures.len());
    report.section(
        "Images",
        &format!(
            "Left: the held-out drawing. Middle: the sample. Right: the training image nearest to the sample. Nearest first.{first}"
        ),
    );
    report.images(&["held-out drawing", "sample", "nearest training image"], &shown)?;
    Ok(report)
}
