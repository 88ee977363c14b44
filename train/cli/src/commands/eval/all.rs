//! `dalle eval all`: every metric of one model, in one report and one JSON file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Error, Result};
use clap::builder::RangedU64ValueParser;
use dalle_data::Example;
use dalle_eval::best_of_n::{self, RankedSamples};
use dalle_eval::catalogue::{Catalogue, Described, Missing, by_hash, examples};
use dalle_eval::clip_score;
use dalle_eval::fidelity::{self, RADII};
use dalle_eval::report::Report;
use dalle_eval::retrieval::{self, SamplePair};
use dalle_eval::sheet::Cell;
use dalle_eval::similarity::psnr;
use dalle_eval::{caption_file, feature_bank::FeatureBank};
use dalle_shared::files::ENCODER;
use dalle_train::progress::bar;
use image::RgbImage;
use serde_json::{Map, Value, json};

use super::super::sample::MAX_BEST_OF;
use super::best_of_n::BestOfN;
use super::output::{Measured, Picture, SHOWN, percent};
use super::reconstruction::{Reconstructed, reconstruct};
use super::session::{BestOfArgs, Session, SessionArgs, run as run_session};
use super::{captions, clip_retrieval, composites, style, unseen_style, values};

/// The captions of `configs/captions/ordinary.txt`, which are part of the program.
const ORDINARY: &str = include_str!("../../../../../configs/captions/ordinary.txt");

/// Arguments of `dalle eval all`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// File with captions for a person to mark, one per line [default: sixty ordinary captions].
    #[arg(long, value_name = "FILE")]
    captions_file: Option<PathBuf>,
    #[command(flatten)]
    best_of: BestOfArgs,
    /// Number of training captions for retrieval, the best of N, CLIP scores and the Fréchet distance; most held-out images for the
    /// reconstruction.
    #[arg(long, default_value_t = 200, value_parser = values::count())]
    captions: usize,
    /// Values of N for the best of N, separated by commas; 1 is always one of them.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEST_OF))]
    n: Vec<usize>,
    /// Most captions that ask for a style, a background, an unseen style, a pair, or a number of objects, of each kind.
    #[arg(long, default_value_t = 160, value_parser = values::count())]
    asked: usize,
    /// Number of images that each is told apart from [default: 100 for unseen styles, 50 for CLIP, 20 for composites].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(2..=1000))]
    among: Option<usize>,
    /// Most true drawings of each style that the classifier of styles is trained on.
    #[arg(long, default_value_t = 1000, value_parser = values::count())]
    drawings: usize,
}

/// Runs `dalle eval all`.
pub fn run(args: &Args) -> Result<()> {
    let ordinary = match &args.captions_file {
        Some(path) => caption_file::read(path)?,
        None => caption_file::parse(ORDINARY)?,
    };
    run_session(
        &args.session,
        |provenance| {
            let provenance = provenance
                .option("captions-file", captions::hash(&ordinary))
                .option("best-of", args.best_of.best_of)
                .option("captions", args.captions)
                .list("n", &args.ns())
                .option("asked", args.asked)
                .option("drawings", args.drawings);
            match args.among {
                Some(among) => provenance.option("among", among),
                None => provenance,
            }
        },
        |catalogue, session, bank| measure(args, catalogue, session, bank, &ordinary),
    )
}

impl Args {
    /// The values of N, ascending, with 1.
    fn ns(&self) -> Vec<usize> {
        let mut ns = self.n.clone();
        ns.push(1);
        ns.sort_unstable();
        ns.dedup();
        ns
    }
}

/// The metrics so far.
#[derive(Default)]
struct Everything {
    results: Map<String, Value>,
    chapters: Vec<Report>,
    pictures: Vec<Picture>,
    summary: Vec<String>,
    /// Metrics that this model or dataset lacks something for, with what it lacks.
    not_measured: BTreeMap<&'static str, String>,
}

impl Everything {
    fn add(&mut self, name: &'static str, measured: Result<Measured>) -> Result<()> {
        match measured {
            Ok(Measured { result, report, summary, .. }) => {
                self.results.insert(name.to_owned(), result);
                self.chapters.push(report);
                self.summary.extend(summary);
                Ok(())
            }
            Err(error) => self.leave_out(name, error),
        }
    }

    /// Records why a metric is not measured. Any other error is returned.
    fn leave_out(&mut self, name: &'static str, error: Error) -> Result<()> {
        let Missing(reason) = error.downcast::<Missing>()?;
        self.not_measured.insert(name, reason);
        Ok(())
    }

    /// All metrics as one.
    fn finish(self, model: &str) -> Measured {
        let Self { mut results, chapters, pictures, mut summary, not_measured } = self;
        let mut report = Report::new(
            &format!("Evaluation of {model}"),
            "All metrics of one model, each explained in its chapter.",
        );
        report.section("Summary", "One line for each metric.");
        let rows: Vec<Vec<String>> = summary
            .iter()
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                vec![name.to_owned(), value.to_owned()]
            })
            .collect();
        report.wide_table("Summary", &["metric", "result"], &rows);
        if !not_measured.is_empty() {
            let rows: Vec<Vec<String>> =
                not_measured.iter().map(|(name, reason)| vec![(*name).to_owned(), reason.clone()]).collect();
            report.wide_table("Not measured", &["metric", "reason"], &rows);
            summary
                .extend(not_measured.iter().map(|(name, reason)| format!("{name}: not measured; {reason}")));
        }
        for chapter in chapters {
            report.chapter(chapter);
        }
        results.insert("not_measured".to_owned(), json!(not_measured));
        Measured { result: results.into(), report, pictures, summary }
    }
}

fn measure(
    args: &Args,
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &mut FeatureBank,
    ordinary: &[String],
) -> Result<Measured> {
    let best_of = args.best_of.best_of;
    let mut everything = Everything::default();
    let mut marked = captions::measure(session, ordinary, best_of)?;
    everything.pictures = std::mem::take(&mut marked.pictures);
    everything.add("captions", Ok(marked))?;
    everything.add("reconstruction", reconstruction(catalogue, session, args.captions))?;
    seen(args, catalogue, session, bank, &mut everything)?;
    let counts = style::Counts { captions: args.asked, drawings: args.drawings };
    everything.add("style", style::measure(catalogue, session, bank, counts))?;
    let counts =
        unseen_style::Counts { captions: Some(args.asked), among: args.among.unwrap_or(unseen_style::AMONG) };
    everything.add("unseen_style", unseen_style::measure(catalogue, session, bank, counts, best_of))?;
    let counts = composites::Counts { captions: args.asked, among: args.among.unwrap_or(composites::AMONG) };
    everything.add("composites", composites::measure(catalogue, session, bank, counts, best_of))?;
    let counts = clip_retrieval::Counts {
        captions: clip_retrieval::CAPTIONS,
        among: args.among.unwrap_or(clip_retrieval::AMONG),
    };
    let size = session.image_size();
    everything
        .add("clip_retrieval", clip_retrieval::measure(catalogue, session.scorer.as_ref(), size, counts))?;
    Ok(everything.finish(&session.folder.config.name))
}

/// The reconstruction quality of held-out images, chosen by hash as `dalle eval reconstruction --count` does.
fn reconstruction(catalogue: &Catalogue, session: &Session, count: usize) -> Result<Measured> {
    let mut held_out: Vec<Described> = catalogue.images().filter(Described::is_held_out).collect();
    by_hash(&mut held_out, "choose");
    held_out.truncate(count);
    if held_out.is_empty() {
        return Err(Missing("the dataset has no held-out images".to_owned()).into());
    }
    if !session.folder.has(ENCODER) {
        return Err(Missing("the model has no encoder".to_owned()).into());
    }
    let chosen: Vec<&Example> = examples(&held_out);
    let Reconstructed { result, originals, reconstructions } =
        reconstruct(&session.folder, &chosen, &session.device)?;
    let differences: Vec<RgbImage> = originals
        .iter()
        .zip(&reconstructions)
        .map(|(a, b)| dalle_eval::reconstruction::difference(a, b))
        .collect();
    let captions: Vec<String> = chosen
        .iter()
        .zip(&result.each)
        .map(|(example, quality)| {
            format!("{} · {:.1} dB", example.captions.main(), psnr(quality.squared_error))
        })
        .collect();
    let cells: Vec<Cell> = (0..originals.len().min(SHOWN))
        .map(|index| Cell {
            images: vec![&originals[index], &reconstructions[index], &differences[index]],
            caption: &captions[index],
        })
        .collect();
    Ok(Measured {
        report: super::reconstruction::report(&result, &cells)?,
        summary: vec![format!(
            "reconstruction: PSNR {:.2} dB, SSIM {:.4} of {} held-out images; {} of the codebook used",
            result.psnr,
            result.ssim,
            result.images,
            percent(result.usage)
        )],
        result: json!(result),
        pictures: Vec::new(),
    })
}

/// Metrics of samples of training captions, each of which is sampled once: the best of N, CLIP scores and the Fréchet distance. A
/// model without CLIP has one sample per caption.
fn seen(
    args: &Args,
    catalogue: &Catalogue,
    session: &mut Session,
    bank: &FeatureBank,
    everything: &mut Everything,
) -> Result<()> {
    let prompts = match retrieval::select(catalogue, args.captions) {
        Ok(prompts) => prompts,
        Err(error) => return everything.leave_out("retrieval", error),
    };
    let Session { generator, scorer, settings, seed, .. } = session;
    let pairs: Vec<SamplePair> = if let Some(scorer) = scorer {
        let ns = args.ns();
        let most = ns.iter().max().unwrap_or(&1) * generator.config.geometry().image_length();
        let progress = bar((prompts.len() * most) as u64, "sampling tokens");
        let (points, ranked) =
            best_of_n::evaluate(generator, scorer, &prompts, &ns, *settings, *seed, |done| {
                progress.set_position(done as u64);
            })?;
        progress.finish_and_clear();
        everything.add("best_of_n", best_of(&points, &ranked, prompts.len()))?;
        let pairs: Vec<SamplePair> = ranked
            .into_iter()
            .map(|RankedSamples { caption, drawing, mut best }| SamplePair {
                caption,
                drawing,
                sample: best.swap_remove(0).0,
            })
            .collect();
        if pairs.len() > 1 {
            let result = clip_score::evaluate(scorer, &pairs)?;
            let measured = Measured {
                report: super::clip_score::report(&result, &cells(&pairs))?,
                summary: vec![format!(
                    "CLIP score: {:.3} with samples, {:.3} with true drawings, {:.3} with other drawings, of {} captions",
                    result.samples, result.drawings, result.shuffled, result.captions
                )],
                result: json!(result),
                pictures: Vec::new(),
            };
            everything.add("clip_score", Ok(measured))?;
        }
        pairs
    } else {
        let progress = bar(prompts.len() as u64, "sampling images");
        let (result, pairs) = retrieval::evaluate(generator, &prompts, *settings, *seed, |done| {
            progress.set_position(done as u64);
        })?;
        progress.finish_and_clear();
        let measured = Measured {
            report: super::retrieval::report(&result, &cells(&pairs))?,
            summary: vec![format!(
                "retrieval: top-1 {} among {} drawings",
                percent(result.top_1),
                result.captions
            )],
            result: json!(result),
            pictures: Vec::new(),
        };
        everything.add("retrieval", Ok(measured))?;
        let reason = Missing("the model has no CLIP; train one with `dalle clip train`".to_owned());
        everything.leave_out("best_of_n", reason.into())?;
        pairs
    };
    everything.add("fidelity", fidelity_of(&pairs, bank))
}

fn best_of(points: &[best_of_n::Point], ranked: &[RankedSamples], captions: usize) -> Result<Measured> {
    let result = BestOfN { captions, points };
    let shown: Vec<Cell> = ranked
        .iter()
        .take(SHOWN)
        .map(|samples| {
            let best = samples.best.iter().map(|(image, _)| image);
            Cell {
                images: std::iter::once(&samples.drawing).chain(best).collect(),
                caption: &samples.caption,
            }
        })
        .collect();
    let line = |point: &best_of_n::Point| format!("best of {} {}", point.n, percent(point.top_1));
    let lines: Vec<String> = points.iter().map(line).collect();
    Ok(Measured {
        report: super::best_of_n::report(&result, &shown)?,
        summary: vec![format!(
            "retrieval: top-1 among {captions} drawings of training captions: {}",
            lines.join(", ")
        )],
        result: json!(result),
        pictures: Vec::new(),
    })
}

fn fidelity_of(pairs: &[SamplePair], bank: &FeatureBank) -> Result<Measured> {
    if pairs.len() < 2 {
        return Err(Missing(
            "a Fréchet distance needs at least two images; choose a larger --captions".to_owned(),
        )
        .into());
    }
    let truth: Vec<&RgbImage> = pairs.iter().map(|pair| &pair.drawing).collect();
    let samples: Vec<&RgbImage> = pairs.iter().map(|pair| &pair.sample).collect();
    let progress = bar((2 * pairs.len() * RADII.len()) as u64, "extracting features");
    let result = fidelity::evaluate(&*bank.extractor, &truth, &samples, &RADII, |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let rows: Vec<String> =
        result.rows.iter().map(|row| format!("{:.1} at blur {}", row.distance, row.radius)).collect();
    Ok(Measured {
        report: super::fidelity::report(&result, &cells(pairs))?,
        summary: vec![format!("{}: {} ({} images)", result.distance, rows.join(", "), result.images)],
        result: json!(result),
        pictures: Vec::new(),
    })
}

fn cells(pairs: &[SamplePair]) -> Vec<Cell<'_>> {
    pairs
        .iter()
        .take(SHOWN)
        .map(|pair| Cell { images: vec![&pair.drawing, &pair.sample], caption: &pair.caption })
        .collect()
}
