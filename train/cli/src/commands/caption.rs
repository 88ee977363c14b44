//! `dalle caption "a red"`: samples captions from the prior.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use dalle_model::footprint::Footprint;
use dalle_model::prior::Masks;
use dalle_model::sample::continue_caption;
use dalle_native::ModelFolder;
use dalle_native::memory;
use dalle_shared::SamplingSettings;

use super::options::{DeviceArgs, validated};
use super::values;

/// Arguments of `dalle caption`.
#[derive(clap::Args)]
pub struct Args {
    /// Prefix of the captions; without it they are sampled from scratch.
    #[arg(default_value = "")]
    beginning: String,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// Number of captions.
    #[arg(long, default_value_t = 5, value_parser = values::batch())]
    count: usize,
    /// Divides the logits; 0 selects the most likely token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Sample from this many most likely tokens only.
    #[arg(long)]
    top_k: Option<usize>,
    /// Sample from the most likely tokens whose probabilities add up to this value.
    #[arg(long)]
    top_p: Option<f32>,
    /// Seed of the first caption; each of the others has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle caption`.
pub fn run(args: &Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let settings = SamplingSettings {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        ..SamplingSettings::default()
    };
    // The extra class is the end of the caption.
    let settings = validated(settings, folder.config.text_vocab + 1)?;
    let footprint = Footprint::new(&folder.config);
    let needed = footprint.prior_bytes(args.on.dtype) + footprint.loading_bytes();
    memory::check(&format!("the model {}", folder.config.name), needed, args.on.device)?;
    let device = args.on.device.open_for(args.on.dtype)?;
    let tokenizer = folder.tokenizer()?;
    let prior = folder.prior(&device, args.on.dtype)?;
    let masks = Masks::new(&folder.config, &device);
    let length = folder.config.text_length - 1;
    let encoding = tokenizer.encode(&args.beginning, length)?;
    ensure!(
        encoding.cut == 0,
        "the prefix has {} tokens, expected at most {length}, the maximum length of this model's captions",
        length + encoding.cut
    );
    let mut out = std::io::stdout().lock();
    for sample in 0..args.count as u64 {
        let seed = args.seed.wrapping_add(sample);
        let caption = continue_caption(&prior, &masks, &encoding.ids, &settings, seed)?;
        writeln!(out, "{}", tokenizer.decode(&caption)?)?;
    }
    Ok(())
}
