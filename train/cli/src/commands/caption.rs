//! `dalle caption "a red"`: captions as the prior would write them.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use dalle_model::plan::Plan;
use dalle_model::prior::Masks;
use dalle_model::sample::continue_caption;
use dalle_native::memory;
use dalle_shared::SamplingSettings;

use dalle_native::ModelFolder;

use super::sampling::{DeviceArgs, checked};
use super::values;

/// Arguments of `dalle caption`.
#[derive(clap::Args)]
pub struct Args {
    /// The beginning; without one, captions from nothing.
    #[arg(default_value = "")]
    beginning: String,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// Captions.
    #[arg(long, default_value_t = 5, value_parser = values::batch())]
    count: usize,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keep only this many most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long)]
    top_p: Option<f32>,
    /// Seed of the first caption; the next has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    on: DeviceArgs,
}

/// Runs `dalle caption`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: &Args) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let settings = SamplingSettings {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        ..SamplingSettings::default()
    };
    // The class behind the vocabulary is the caption's end.
    let settings = checked(settings, folder.config.text_vocab + 1)?;
    let plan = Plan::new(&folder.config);
    let needed = plan.prior_bytes(args.on.dtype) + plan.loading_bytes();
    memory::check(&format!("the model {}", folder.config.name), needed, args.on.device)?;
    let device = args.on.device.open_for(args.on.dtype)?;
    let tokenizer = folder.tokenizer()?;
    let prior = folder.prior(&device, args.on.dtype)?;
    let masks = Masks::new(&folder.config, &device);
    let encoding = tokenizer.encode(&args.beginning, folder.config.text_length - 1)?;
    ensure!(
        encoding.cut == 0,
        "the beginning is longer than a caption by {} tokens, of which this model reads {}",
        encoding.cut,
        folder.config.text_length - 1
    );
    let beginning = encoding.ids;
    let mut out = std::io::stdout().lock();
    for sample in 0..args.count as u64 {
        let caption =
            continue_caption(&prior, &masks, &beginning, &settings, args.seed.wrapping_add(sample))?;
        writeln!(out, "{}", tokenizer.decode(&caption)?)?;
    }
    Ok(())
}
