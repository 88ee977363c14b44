//! `dalle import`: converts a released model into a model folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use dalle_import::{import_openai_dvae, read_file};
use dalle_model::burn::tensor::FloatDType;
use dalle_model::config::{ModelConfig, PriorConfig};
use dalle_model::weights::to_safetensors;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_shared::files::{CONFIG, DECODER, ENCODER};

/// Arguments of `dalle import`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The dVAE of OpenAI's package dall-e 0.1: its encoder.pkl and decoder.pkl, their state dicts, or safetensors. Both may be in one
    /// file, such as a checkpoint of DALLE-pytorch that was trained with this dVAE: give it twice.
    OpenaiDvae {
        /// The encoder, as downloaded.
        #[arg(long)]
        encoder: PathBuf,
        /// The decoder, as downloaded.
        #[arg(long)]
        decoder: PathBuf,
        /// Model folder to write encoder and decoder into.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs `dalle import`.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::OpenaiDvae { encoder, decoder, out } => openai_dvae(&encoder, &decoder, &out),
    }
}

fn openai_dvae(encoder: &Path, decoder: &Path, out: &Path) -> Result<()> {
    ModelFolder::check_target(out)?;
    let device = DeviceName::Cpu.open()?;
    let imported = import_openai_dvae(&read_file(encoder)?, &read_file(decoder)?, &device);
    let (dvae, encoder, decoder) =
        imported.with_context(|| format!("{} and {}", encoder.display(), decoder.display()))?;
    // The configuration of the paper's prior, which was trained on this dVAE's tokens but never released.
    let config = ModelConfig {
        name: "openai-dvae".to_owned(),
        license: "dVAE: Modified MIT, © OpenAI".to_owned(),
        examples: Vec::new(),
        text_length: 256,
        text_vocab: 16_384,
        image_size: 256,
        dvae,
        prior: PriorConfig { layers: 64, heads: 62, head_dim: 64, conv_kernel: 11 },
    };
    config.validate()?;
    let parts = [
        (CONFIG, serde_json::to_vec_pretty(&config)?),
        (ENCODER, to_safetensors(&encoder, FloatDType::F32)?),
        (DECODER, to_safetensors(&decoder, FloatDType::F32)?),
    ];
    ModelFolder::write(out, &parts)?;
    writeln!(std::io::stdout(), "wrote encoder and decoder to {}", out.display())?;
    Ok(())
}
