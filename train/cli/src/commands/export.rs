//! `dalle export`: writes the weights of a checkpoint into a model folder.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_native::ModelFolder;
use dalle_train::checkpoint::{Weights, Which};
use dalle_train::export::Export;

/// Arguments of `dalle export`.
#[derive(clap::Args)]
pub struct Args {
    /// Run folder of the dVAE, the prior or CLIP. The training may still be running.
    #[arg(long)]
    run: PathBuf,
    /// Export the checkpoint after this many updates [default: the newest].
    #[arg(long)]
    step: Option<u64>,
    /// Export the checkpoint with the lowest validation loss.
    #[arg(long, conflicts_with = "step")]
    best: bool,
    /// Model folder to write, new or of the same model. Its other parts are kept.
    #[arg(long)]
    out: PathBuf,
    /// Write the raw weights instead of the averaged ones.
    #[arg(long)]
    raw: bool,
}

/// Runs `dalle export`.
///
/// # Errors
/// There is no such checkpoint, or the folder cannot be written or belongs to another model.
pub fn run(args: &Args) -> Result<()> {
    ModelFolder::check_target(&args.out)?;
    let which = match args.step {
        _ if args.best => Which::Best,
        Some(step) => Which::Step(step),
        None => Which::Newest,
    };
    let weights = if args.raw { Weights::Raw } else { Weights::Averaged };
    let export = Export::of(&args.run, which, weights)?;
    export.write(&args.out)?;
    writeln!(
        std::io::stdout(),
        "wrote the {} after update {} to {}",
        export.network.name(),
        export.step,
        args.out.display()
    )?;
    Ok(())
}
