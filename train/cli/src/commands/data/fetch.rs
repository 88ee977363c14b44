//! `dalle data fetch`: downloads the packages of a recipe.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use dalle_data::log_line;
use dalle_prepare::fetch::{fetch, folder, is_fetched};
use dalle_prepare::{Package, Recipe};

/// Arguments of `dalle data fetch`.
#[derive(clap::Args)]
pub struct FetchArgs {
    /// Recipe (configs/data/*.json) that lists the packages.
    #[arg(long)]
    recipe: PathBuf,
    /// Folder for the packages. Those that are there already are not downloaded again.
    #[arg(long)]
    out: PathBuf,
    /// Download without asking.
    #[arg(long)]
    yes: bool,
}

/// Lists the missing packages, asks for consent and downloads them.
///
/// # Errors
/// The recipe is wrong, there is no consent, or a package could not be fetched; the others then are.
pub fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let recipe = Recipe::read(&args.recipe)?;
    let missing: Vec<&Package> =
        recipe.packages().filter(|package| !is_fetched(package, &args.out)).collect();
    let mut out = io::stdout().lock();
    let there = recipe.packages().count() - missing.len();
    if there > 0 {
        writeln!(out, "{there} packages are in {} already", args.out.display())?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        let Package { name, version, license, .. } = package;
        writeln!(out, "  {name} {version}, {license}, {:.1} MB", megabytes(package.bytes))?;
    }
    let bytes: u64 = missing.iter().map(|package| package.bytes).sum();
    let what = format!("{} packages, {:.1} MB, into {}", missing.len(), megabytes(bytes), args.out.display());
    if args.yes {
        writeln!(out, "downloading {what}")?;
    } else {
        ensure!(
            io::stdin().is_terminal(),
            "expected consent to download {what}, but there is no terminal to ask on; add --yes"
        );
        write!(out, "Download {what}? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            bail!("nothing was downloaded");
        }
    }
    let mut failed = Vec::new();
    for package in missing {
        match fetch(package, &args.out) {
            Ok(()) => writeln!(out, "fetched {}", folder(package, &args.out).display())?,
            Err(error) => {
                log_line(format_args!("{} {}: {error}", package.name, package.version));
                failed.push(package.name.as_str());
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "could not fetch {}; the other packages are in {}",
        failed.join(", "),
        args.out.display()
    );
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
