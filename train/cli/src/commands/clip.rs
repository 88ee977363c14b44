//! `dalle clip train`: fit the contrastive model that chooses among samples.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use dalle_model::clip::{Clip, ClipConfig};
use dalle_model::plan::Plan;
use dalle_shared::files::{CLIP_CONFIG, CONFIG, DECODER, ENCODER, TOKENIZER};
use serde::Serialize;

use dalle_data::{Dataset, Split};
use dalle_native::{ModelFolder, read_clip_config};
use dalle_train::clip_training::{ClipSchedule, ClipStage, check_batch};
use dalle_train::export::clip_files;
use dalle_train::interrupt::Interrupt;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::WarmupCosine;
use dalle_train::training::train;

use super::run::RunArgs;
use super::run_hooks::RunHooks;
use super::values;

/// Arguments of `dalle clip`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ClipCommand,
}

#[derive(Subcommand)]
enum ClipCommand {
    /// Fit the contrastive model to captions and pictures.
    Train(TrainArgs),
}

/// The defaults are those of CLIP's own paper.
#[derive(clap::Args, Serialize)]
struct TrainArgs {
    /// Model folder with a tokenizer; the contrastive model is added to it.
    #[arg(long)]
    #[serde(skip)]
    model: PathBuf,
    /// Configuration of the contrastive model, such as configs/emoji-128.clip.json.
    #[arg(long)]
    #[serde(skip)]
    config: PathBuf,
    /// Dataset folder.
    #[arg(long)]
    #[serde(skip)]
    data: PathBuf,
    /// Updates in all; may be raised to make a run longer, whose schedules stay as they are.
    #[serde(skip)]
    #[arg(long, default_value_t = 390_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Pairs per update, at least 2: each is told apart from the others.
    #[arg(long, default_value_t = 32_768, value_parser = values::batch())]
    batch: usize,
    /// Greatest step size, reached after the warm-up.
    #[arg(long, default_value_t = 5e-4, value_parser = values::positive)]
    step_size: f64,
    /// Updates of warm-up.
    #[arg(long, default_value_t = 2_000)]
    warmup: u64,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = 0.2, value_parser = values::not_negative)]
    weight_decay: f64,
    /// Probability that BPE drops a merge.
    #[arg(long, default_value_t = 0.0, value_parser = values::probability)]
    bpe_dropout: f32,
    /// Probability that a picture is seen as the folder's dVAE gives it back, which is how samples look.
    #[arg(long, default_value_t = 0.0, value_parser = values::probability)]
    reconstructed: f32,
    /// Decay of the average of the weights, per update; 0 keeps the last ones.
    #[arg(long, default_value_t = 0.0, value_parser = values::decay)]
    ewma: f64,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

/// Runs `dalle clip`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    let ClipCommand::Train(args) = args.command;
    let folder = ModelFolder::open(&args.model)?;
    let model = folder.config.clone();
    let tokenizer = folder.tokenizer()?;
    let config =
        ClipConfig { tokenizer: Some(folder.sha256(TOKENIZER)?), ..read_clip_config(&args.config, &model)? };
    let dataset = Dataset::open(&args.data)?;
    let held_out = args.run.held_out(&dataset)?;
    let examples: Vec<_> = dataset.split(Split::Train).cloned().collect();
    ensure!(
        args.run.sheet_every.is_none(),
        "--sheet-every: the contrastive model makes no images; leave the option out"
    );
    // Before the memory: a batch that would fit there is of no use if it does not fit here.
    check_batch(args.batch, examples.len())?;
    let plan = Plan::new(&model);
    args.run.check_memory(&format!("the contrastive model of {}", model.name), args.batch, |batch| {
        plan.training_clip(&config, &model, batch, args.reconstructed > 0.0)
    })?;
    let device = args.run.device.open()?;
    let schedule = ClipSchedule {
        batch: args.batch,
        accumulate: args.run.accumulate,
        learning_rate: WarmupCosine {
            peak: args.step_size,
            warmup: args.warmup,
            updates: args.run.schedule_steps(args.steps)?,
        },
        bpe_dropout: args.bpe_dropout,
        reconstructed: args.reconstructed,
        seed: args.run.seed,
    };
    let mut settings = serde_json::to_value(&args)?;
    settings["network"] = NetworkKind::Clip.name().into();
    settings["model"] = serde_json::to_value(&config)?;
    settings["geometry"] = serde_json::to_value(model.geometry())?;
    settings["data"] = dataset.hash().into();
    let dvae = if args.reconstructed > 0.0 {
        settings["dvae"] = [folder.sha256(ENCODER)?, folder.sha256(DECODER)?].concat().into();
        Some((folder.encoder(&device)?, folder.decoder(&device)?))
    } else {
        None
    };
    let device = device.autodiff();
    let own = vec![(CLIP_CONFIG, serde_json::to_vec_pretty(&config)?)];
    let shared = vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, folder.read(TOKENIZER)?)];
    let run = args.run.config(
        format!("contrastive model {}", model.name),
        args.steps,
        settings,
        [own.clone(), shared].concat(),
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-6,
            weight_decay: args.weight_decay,
            clip: None,
            ewma: args.ewma,
        },
    );
    device.seed(args.run.seed);
    let fresh = Clip::new(&config, &model, &device);
    let mut stage = ClipStage::new(examples, &held_out, dvae, tokenizer, &model, schedule, device)?;
    let (clip, _) = train(&mut stage, fresh, &run, &mut RunHooks::without_sheets(), &Interrupt::listen()?)?;
    ModelFolder::write(&args.model, &[own, clip_files(&clip)?].concat())?;
    writeln!(std::io::stdout(), "wrote the contrastive model to {}", args.model.display())?;
    Ok(())
}
