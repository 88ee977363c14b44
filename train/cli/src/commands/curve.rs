//! `dalle curve`: plots metrics of several training runs into one image.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use dalle_train::checkpoint::newest_state;
use dalle_train::run_state::History;

use super::{outputs, values};
use crate::curve;

/// Arguments of `dalle curve`.
#[derive(clap::Args)]
pub struct Args {
    /// Run folders with the names of their lines: `NAME=FOLDER`.
    #[arg(required = true, value_name = "NAME=FOLDER")]
    runs: Vec<NamedRun>,
    /// Metrics to plot, each in a panel of its own.
    #[arg(long, value_name = "METRICS", default_value = "loss", value_delimiter = ';')]
    metrics: Vec<String>,
    /// Heading of the image.
    #[arg(long, default_value = "")]
    title: String,
    /// The image to write (.png).
    #[arg(long, value_parser = values::png)]
    out: PathBuf,
}

/// A run folder and the name of its lines.
#[derive(Clone, Debug)]
struct NamedRun {
    name: String,
    folder: PathBuf,
}

impl FromStr for NamedRun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
                Ok(Self { name: name.to_owned(), folder: folder.into() })
            }
            _ => Err("expected a name and a run folder, such as `baseline=runs/prior`".to_owned()),
        }
    }
}

/// Runs `dalle curve`.
///
/// # Errors
/// A run has no checkpoint, no run has a metric, or the image cannot be written.
pub fn run(args: &Args) -> Result<()> {
    outputs::check(&[], &[("--out", Some(&args.out))])?;
    let mut plotted = History::new();
    let mut known: Vec<String> = Vec::new();
    for NamedRun { name, folder } in &args.runs {
        let state = newest_state(folder)?;
        let state = state.with_context(|| format!("{} has no checkpoint of a run", folder.display()))?;
        for metric in &args.metrics {
            if let Some(values) = state.history.get(metric) {
                plotted.insert(format!("{metric}/{name}"), values.clone());
            }
        }
        known.extend(state.history.into_keys().filter(|name| !name.contains('/')));
    }
    for metric in &args.metrics {
        if !plotted.keys().any(|name| name.rsplit_once('/').is_some_and(|(name, _)| name == metric)) {
            known.sort();
            known.dedup();
            bail!("--metrics: no run has logged `{metric}`; they have {}", known.join("; "));
        }
    }
    curve::draw(&args.title, &plotted, &args.out)?;
    writeln!(std::io::stdout(), "wrote {}", args.out.display())?;
    Ok(())
}
