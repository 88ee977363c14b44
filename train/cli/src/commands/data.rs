//! `dalle data`: datasets of captioned images.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use dalle_data::random::{Purpose, stream};
use dalle_data::{DataError, MANIFEST, Manifest, Options, Problem, Reason, Record, Shards, Subset, log_line};
use dalle_prepare::{EmojiPackages, Family, ImageFiles, Recipe, Source, build_recipe};

use super::{outputs, values};

mod card;
mod fetch;

/// Arguments of `dalle data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Render drawings or read images with captions, and write a dataset of WebDataset shards.
    Build(BuildArgs),
    /// Download the packages of a recipe with npm, pip or apt-get.
    Fetch(fetch::FetchArgs),
    /// Render a contact sheet of a dataset's images and captions.
    Sheet(SheetArgs),
    /// Write a web page about a dataset: sources, licences, splits, captions, examples.
    Card(card::CardArgs),
}

#[derive(Clone, clap::Args)]
struct BuildArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Replace --out if it is a dataset.
    #[arg(long)]
    overwrite: bool,
    /// Recipe (configs/data/*.json) that says what is made of --packages; it replaces all other options.
    #[arg(long, requires = "packages", conflicts_with_all = [
        "images", "families", "groups", "skin_tones", "size", "backgrounds", "shard_size", "val_share", "seed",
    ])]
    recipe: Option<PathBuf>,
    /// Emoji families [default: all in colour].
    #[arg(long, value_delimiter = ',', conflicts_with = "images")]
    families: Vec<&'static Family>,
    /// Unicode's emoji groups [default: all but flags, symbols and component].
    #[arg(long, value_delimiter = ',', conflicts_with = "images")]
    groups: Option<Vec<String>>,
    /// Include skin-tone variants.
    #[arg(long, conflicts_with = "images")]
    skin_tones: bool,
    /// SPDX licence of the images in --images.
    #[arg(long, default_value = "unspecified", conflicts_with = "packages")]
    license: String,
    /// Side of the images in pixels.
    #[arg(long, default_value_t = 128)]
    size: u32,
    /// Number of coloured backgrounds per drawing in addition to white; captions name them.
    #[arg(long, default_value_t = 0)]
    backgrounds: usize,
    /// Maximum number of images per shard.
    #[arg(long, default_value_t = 1000)]
    shard_size: usize,
    /// Share of concepts in the validation split.
    #[arg(long = "val", default_value_t = 0.05)]
    val_share: f64,
    /// Seed of the order of images and the choice of backgrounds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// Folder with unpacked npm packages of emoji drawings.
    #[arg(long)]
    packages: Option<PathBuf>,
    /// Images with captions: a folder, a WebDataset shard (.tar, .tar.gz) or a parquet file. A caption is in a .txt file beside its
    /// image, or in a list such as captions.jsonl, metadata.csv or COCO's JSON.
    #[arg(long)]
    images: Option<PathBuf>,
}

#[derive(clap::Args)]
struct SheetArgs {
    /// Dataset folder.
    data: PathBuf,
    /// Image to write (.png).
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
    /// Number of images shown, from the start of the shuffled dataset.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    count: usize,
    /// Images per row.
    #[arg(long, default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    columns: usize,
    /// Show only this part: train, val, or of a dataset made by a recipe val-concept, val-style or val-pair.
    #[arg(long)]
    split: Option<Subset>,
    /// Show a random caption of each image instead of the main one.
    #[arg(long)]
    sampled: bool,
}

/// Runs `dalle data`.
///
/// # Errors
/// See [`dalle_prepare::build`] and [`Shards`].
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Build(args) => build(&args),
        Command::Fetch(args) => fetch::run(&args),
        Command::Sheet(args) => sheet(&args),
        Command::Card(args) => card::run(&args),
    }
}

fn build(args: &BuildArgs) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("rendering {bar:40} {pos}/{len} {eta}")?;
    let progress = ProgressBar::new(0).with_style(style);
    let manifest = match (&args.recipe, &args.input.packages) {
        (Some(recipe), Some(packages)) => {
            build_recipe(&Recipe::read(recipe)?, packages, &args.out, args.overwrite, &progress)?
        }
        _ => match build_plain(args, &progress) {
            Err(error) => {
                // Also where nothing is stored, what is wrong with each image is said.
                if let Some(DataError::Nothing { problems, .. }) = error.downcast_ref() {
                    name_problems(problems, None);
                }
                return Err(error);
            }
            Ok(manifest) => manifest,
        },
    };
    let mut out = std::io::stdout().lock();
    report(&manifest, &mut out)?;
    writeln!(out, "wrote {}", args.out.display())?;
    Ok(())
}

/// Builds a dataset without a recipe.
fn build_plain(args: &BuildArgs, progress: &ProgressBar) -> anyhow::Result<Manifest> {
    let args = args.clone();
    let sources = match (args.input.packages, args.input.images) {
        (Some(root), _) => {
            let families = if args.families.is_empty() { Family::defaults() } else { args.families };
            EmojiPackages { root, families, groups: args.groups, skin_tones: args.skin_tones }.sources()?
        }
        (None, Some(path)) => vec![Box::new(ImageFiles { path, license: args.license }) as Box<dyn Source>],
        (None, None) => anyhow::bail!("expected --packages or --images"),
    };
    let options = Options {
        size: args.size,
        shard_size: args.shard_size,
        backgrounds: args.backgrounds,
        val_share: args.val_share,
        seed: args.seed,
    };
    Ok(dalle_prepare::build(&sources, &options, &args.out, args.overwrite, progress)?)
}

/// Maximum number of unusable images that are listed.
const NAMED: usize = 20;

/// Lists unusable images, the losses first. `listed` is where all of them are listed.
fn name_problems(problems: &[Problem], listed: Option<&str>) {
    let (doubles, losses): (Vec<_>, Vec<_>) =
        problems.iter().partition(|problem| problem.reason == Reason::Duplicate);
    for problem in losses.iter().take(NAMED) {
        log_line(format_args!("left out: {}: {}", problem.source, problem.message));
    }
    let listed = listed.map(|listed| format!(", listed in {listed}")).unwrap_or_default();
    if losses.len() > NAMED {
        log_line(format_args!("left out: {} more{listed}", losses.len() - NAMED));
    }
    match doubles.as_slice() {
        [] => {}
        [double] => log_line(format_args!("left out: {}: {}", double.source, double.message)),
        [first, others @ ..] => log_line(format_args!(
            "left out: {}: {}; and {} more duplicates{listed}",
            first.source,
            first.message,
            others.len()
        )),
    }
}

/// Prints what was stored and what was left out, and lists unusable images.
fn report(manifest: &Manifest, out: &mut impl Write) -> std::io::Result<()> {
    name_problems(&manifest.problems, Some(MANIFEST));
    for source in &manifest.sources {
        if !source.other_files.is_empty() {
            let counts: Vec<String> =
                source.other_files.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
            log_line(format_args!("passed over, because they are not images: {}", counts.join(", ")));
        }
        if source.enlarged > 0 {
            log_line(format_args!(
                "enlarged: {} of the images have fewer than {size}×{size} pixels",
                source.enlarged,
                size = manifest.image_size
            ));
        }
        let reasons = source.left_out.iter().filter(|(reason, _)| **reason != Reason::NotAPicture);
        let left_out: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
        let left_out = if left_out.is_empty() { "nothing".to_owned() } else { left_out.join(", ") };
        writeln!(out, "{}: {} stored; left out: {left_out}", source.info.name, source.stored)?;
    }
    if manifest.recipe.is_some() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for (kind, count) in manifest.sources.iter().flat_map(|source| &source.kinds) {
            *kinds.entry(kind).or_default() += count;
        }
        let list = |counts: &mut dyn Iterator<Item = (&str, usize)>| {
            counts.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(out, "kinds: {}", list(&mut kinds.into_iter()))?;
        let mut splits = manifest.splits.iter().map(|(name, count)| (name.as_str(), *count));
        writeln!(out, "splits: {}", list(&mut splits))?;
    }
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
    writeln!(
        out,
        "{} images of {}×{}: {} for training, {} for validation; {} shards, {:.1} MB",
        manifest.records,
        manifest.image_size,
        manifest.image_size,
        manifest.train,
        manifest.val,
        manifest.shards.len(),
        bytes as f64 / 1e6
    )
}

fn sheet(args: &SheetArgs) -> anyhow::Result<()> {
    let shards = Shards::open(&args.data)?;
    let wanted =
        |record: &Record| args.split.is_none_or(|subset| subset.contains(record.split, record.held_out));
    let described = shards.entries(None).map(|entry| entry.and_then(|entry| Ok((entry.record()?, entry))));
    let chosen = described.filter(|item| item.as_ref().map_or(true, |(record, _)| wanted(record)));
    let chosen = chosen.zip(0..).take(args.count).map(|(item, number)| {
        let (record, entry) = item?;
        let caption = if args.sampled {
            record.captions.sample(&mut stream(0, Purpose::Caption, number))
        } else {
            record.captions.main()
        };
        Ok((entry.image()?, caption))
    });
    let chosen: Vec<_> = chosen.collect::<Result<_, DataError>>()?;
    let cells: Vec<dalle_eval::sheet::Cell> = chosen
        .iter()
        .map(|(image, caption)| dalle_eval::sheet::Cell { images: vec![image], caption })
        .collect();
    crate::png::write_png(&args.out, &dalle_eval::sheet::contact_sheet(&cells, args.columns))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "wrote {} images to {}", cells.len(), args.out.display())?;
    Ok(())
}
