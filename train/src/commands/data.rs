//! `dalle data`: training sets of captioned pictures.

/// Arguments of `dalle data`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `dalle data`.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("dalle data: not built yet")
}
