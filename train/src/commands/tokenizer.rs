//! `dalle tokenizer`: the caption vocabulary.

/// Arguments of `dalle tokenizer`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `dalle tokenizer`.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("dalle tokenizer: not built yet")
}
