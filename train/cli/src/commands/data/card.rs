//! `dalle data card`: a dataset as a web page, with its sources, licences, splits, captions and examples.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_data::random::{Purpose, stream};
use dalle_data::{Manifest, Shards, Subset};
use dalle_eval::report::Report;
use dalle_eval::sheet::Cell;
use dalle_native::publish::write_file;
use image::RgbImage;
use serde_json::Value;

use super::{outputs, values};

/// Examples shown of each kind and split.
const SHOWN: usize = 24;
/// Digits of the dataset's hash that are shown.
const DIGITS: usize = 16;

/// Arguments of `dalle data card`.
#[derive(clap::Args)]
pub struct CardArgs {
    /// Dataset folder.
    #[arg(long)]
    data: PathBuf,
    /// Page to write (.html): one file that loads nothing else.
    #[arg(long, value_parser = values::html)]
    out: PathBuf,
}

/// What the records of a dataset say together.
#[derive(Default)]
struct Survey {
    concepts: BTreeSet<String>,
    /// Captions by their number of words.
    lengths: BTreeMap<usize, usize>,
    /// Some examples of each kind and of each held-out split, with a sampled caption.
    shown: BTreeMap<String, Vec<(RgbImage, String)>>,
}

/// Writes the card.
///
/// # Errors
/// The folder is no dataset of images, or the page cannot be written.
pub fn run(args: &CardArgs) -> Result<()> {
    outputs::check(&[], &[("--out", Some(&args.out))])?;
    let shards = Shards::open(&args.data)?;
    let survey = survey(&shards)?;
    let hash = shards.hash();
    let report = report(shards.manifest(), &survey)?;
    let command = format!("dalle data card --data {} --out {}", args.data.display(), args.out.display());
    let provenance =
        format!("dalle {}, dataset {}", env!("CARGO_PKG_VERSION"), &hash[..DIGITS.min(hash.len())]);
    write_file(&args.out, report.finish(&command, &provenance).as_bytes())?;
    writeln!(std::io::stdout().lock(), "wrote {}", args.out.display())?;
    Ok(())
}

fn survey(shards: &Shards) -> Result<Survey> {
    let mut survey = Survey::default();
    for (entry, number) in shards.entries(None).zip(0..) {
        let entry = entry?;
        let record = entry.record()?;
        let caption = record.captions.sample(&mut stream(0, Purpose::Caption, number));
        *survey.lengths.entry(caption.split_whitespace().count()).or_default() += 1;
        let kind = record.extra.get("kind").and_then(Value::as_str).unwrap_or("image").to_owned();
        let held_out = Subset::ALL
            .into_iter()
            .skip(2)
            .filter(|subset| record.held_out.is_some() && subset.contains(record.split, record.held_out));
        for group in std::iter::once(kind).chain(held_out.map(|subset| subset.to_string())) {
            let shown = survey.shown.entry(group).or_default();
            if shown.len() < SHOWN {
                shown.push((entry.image()?, caption.clone()));
            }
        }
        survey.concepts.insert(record.concept);
    }
    Ok(survey)
}

fn report(manifest: &Manifest, survey: &Survey) -> Result<Report> {
    let text = |field: &str| manifest.recipe.as_ref().and_then(|recipe| recipe.get(field)?.as_str());
    let title = format!("Dataset {}", text("name").unwrap_or("card"));
    let mut report = Report::new(&title, text("description").unwrap_or("Captioned images."));
    let count = |count: usize| count.to_string();
    report.figures(&[
        ("Images", count(manifest.records), "of both splits"),
        ("Training", count(manifest.train), "images that are trained on"),
        ("Held out", count(manifest.val), "images that are not"),
        ("Size", format!("{0} × {0}", manifest.image_size), "pixels"),
        ("Descriptions", count(survey.concepts.len()), "different concepts and scenes"),
    ]);
    sources(&mut report, manifest);
    left_out(&mut report, manifest);
    splits(&mut report, manifest);
    report.section(
        "Captions",
        "A caption is sampled each time an image is read. The chart counts one sampled caption of each image.",
    );
    let lengths: Vec<(f64, f64)> =
        survey.lengths.iter().map(|(words, count)| (*words as f64, *count as f64)).collect();
    report.chart("Captions by their number of words", "words", &lengths)?;
    for (group, shown) in &survey.shown {
        report.section(
            &format!("Examples: {group}"),
            "The first images of the shuffled dataset, each with a sampled caption.",
        );
        let cells: Vec<Cell> =
            shown.iter().map(|(image, caption)| Cell { images: vec![image], caption }).collect();
        report.images(&["image"], &cells)?;
    }
    Ok(report)
}

fn sources(report: &mut Report, manifest: &Manifest) {
    report.section("Sources", "Images of each source. Licences are SPDX identifiers.");
    let kinds: BTreeSet<&String> = manifest.sources.iter().flat_map(|source| source.kinds.keys()).collect();
    let mut head = vec!["source", "from", "made by", "licence"];
    head.extend(kinds.iter().map(|kind| kind.as_str()));
    let rows = manifest.sources.iter().map(|source| {
        let package = source.info.package.as_ref();
        let mut row = vec![
            source.info.name.clone(),
            package.map_or("a folder".to_owned(), |package| format!("{} {}", package.name, package.version)),
            package
                .and_then(|package| package.author.clone())
                .unwrap_or_else(|| "see the project".to_owned()),
            source.info.license.clone(),
        ];
        row.extend(kinds.iter().map(|kind| source.kinds.get(*kind).copied().unwrap_or(0).to_string()));
        row
    });
    report.table("Sources and kinds of images", &head, &rows.collect::<Vec<_>>());
}

fn left_out(report: &mut Report, manifest: &Manifest) {
    report.section("Left out", "Drawings of the packages that are not in the dataset, by reason.");
    let reasons: BTreeSet<_> = manifest.sources.iter().flat_map(|source| source.left_out.keys()).collect();
    let names: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let mut head = vec!["source"];
    head.extend(names.iter().map(String::as_str));
    let rows = manifest.sources.iter().map(|source| {
        let counts =
            reasons.iter().map(|reason| source.left_out.get(*reason).copied().unwrap_or(0).to_string());
        std::iter::once(source.info.name.clone()).chain(counts).collect()
    });
    report.table("Drawings left out", &head, &rows.collect::<Vec<Vec<String>>>());
    let groups = manifest.recipe.as_ref().and_then(|recipe| recipe.get("groups")?.as_object());
    if let Some(groups) = groups {
        let rows: Vec<Vec<String>> =
            groups.iter().map(|(group, share)| vec![group.clone(), share.to_string()]).collect();
        report.table("Groups of emoji that are used, and the share of each", &["group", "share"], &rows);
    }
}

fn splits(report: &mut Report, manifest: &Manifest) {
    report.section("Splits", "Hashes of concepts decide what is held out, for all trainings alike.");
    let meaning = |subset: Subset| match subset.to_string().as_str() {
        "train" => "is trained on",
        "val" => "all that is held out",
        "val-concept" => "no training image shows the concept",
        "val-style" => "training shows the concept, but not in this design",
        _ => "training never shows the two concepts, or the concept and the colour, together",
    };
    let rows = Subset::ALL.into_iter().filter_map(|subset| {
        let count = match subset {
            Subset::Train => manifest.train,
            Subset::Val => manifest.val,
            Subset::HeldOut(_) => manifest.splits.get(&subset.to_string()).copied()?,
        };
        Some(vec![subset.to_string(), count.to_string(), meaning(subset).to_owned()])
    });
    report.table("Splits, as --split names them", &["split", "images", "meaning"], &rows.collect::<Vec<_>>());
}
