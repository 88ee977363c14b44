//! `dalle prior train`: fit the prior to captions and pictures (stage 2).

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use dalle_data::{Dataset, Example, Split};
use dalle_model::plan::Plan;
use dalle_model::precision::Precision;
use dalle_model::prior::Prior;
use dalle_model::weights::to_safetensors;
use dalle_native::{ModelFolder, read_tokenizer};
use dalle_shared::files::{CONFIG, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::files::{ENCODER, PRIOR, TOKENIZER};
use dalle_shared::sha256_hex;
use dalle_shared::{Tokenizer, sha256_hex};
use dalle_train::export::prior_files;
use dalle_train::interrupt::Interrupt;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::prior_training::{PriorSchedule, PriorStage};
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::WarmupCosine;
use dalle_train::training::train;
use serde::Serialize;

use super::run::RunArgs;
use super::run_hooks::RunHooks;
use super::values;

/// Arguments of `dalle prior`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: PriorCommand,
}

#[derive(Subcommand)]
enum PriorCommand {
    /// Fit the prior to captions and the tokens of their pictures.
    Train(TrainArgs),
}

#[derive(clap::Args, Serialize)]
struct TrainArgs {
    /// Model folder with a trained dVAE; the prior and the tokenizer are added to it.
    #[arg(long)]
    #[serde(skip)]
    model: PathBuf,
    /// Dataset folder.
    #[arg(long)]
    #[serde(skip)]
    data: PathBuf,
    /// The tokenizer.json to train with.
    #[arg(long)]
    #[serde(skip)]
    tokenizer: PathBuf,
    /// Model folder whose prior to go on from, instead of random weights; it may be the same.
    #[arg(long)]
    #[serde(skip)]
    init: Option<PathBuf>,
    /// Updates in all; may be raised to make a run longer, whose schedules stay as they are.
    #[serde(skip)]
    #[arg(long, default_value_t = 430_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Pairs per update.
    #[arg(long, default_value_t = 1024, value_parser = values::batch())]
    batch: usize,
    /// Greatest step size, reached after the warm-up.
    #[arg(long, default_value_t = 4.5e-4, value_parser = values::positive)]
    step_size: f64,
    /// Updates of warm-up.
    #[arg(long, default_value_t = 5_000)]
    warmup: u64,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = 4.5e-2, value_parser = values::not_negative)]
    weight_decay: f64,
    /// Probability that BPE drops a merge.
    #[arg(long, default_value_t = 0.1, value_parser = values::probability)]
    bpe_dropout: f32,
    /// Share of pairs that are trained without their caption: what `--guidance` at sampling needs.
    #[arg(long, default_value_t = 0.0, value_parser = values::probability)]
    caption_dropout: f32,
    /// Decay of the average of the weights, per update.
    #[arg(long, default_value_t = 0.9996, value_parser = values::decay)]
    ewma: f64,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

/// Runs `dalle prior`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    let PriorCommand::Train(args) = args.command;
    let folder = ModelFolder::open(&args.model)?;
    let config = folder.config.clone();
    let plan = Plan::new(&config);
    args.run.check_memory(&format!("the prior of {}", config.name), args.batch, |batch| {
        plan.training_prior(batch)
    })?;
    let device = args.run.device.open()?;
    let encoder = folder.encoder(&device)?;
    let (tokenizer, tokenizer_json) = read_tokenizer(&args.tokenizer, &config)?;
    let dataset = Dataset::open(&args.data)?;
    let held_out = args.run.held_out(&dataset)?;
    let examples: Vec<Example> = dataset.split(Split::Train).cloned().collect();
    let (plain, device) = (device.clone(), device.autodiff());
    let schedule = PriorSchedule {
        batch: args.batch,
        accumulate: args.run.accumulate,
        learning_rate: WarmupCosine {
            peak: args.step_size,
            warmup: args.warmup,
            updates: args.run.schedule_steps(args.steps)?,
        },
        bpe_dropout: args.bpe_dropout,
        caption_dropout: args.caption_dropout,
        seed: args.run.seed,
    };
    let mut settings = serde_json::to_value(&args)?;
    settings["network"] = NetworkKind::Prior.name().into();
    settings["model"] = serde_json::to_value(&config.prior)?;
    settings["encoder"] = folder.sha256(ENCODER)?.into();
    settings["tokenizer"] = sha256_hex(&tokenizer_json).into();
    settings["data"] = dataset.hash().into();
    device.seed(args.run.seed);
    let fresh = match &args.init {
        Some(init) => {
            let init = ModelFolder::open(init)?;
            settings["init"] = init.sha256(PRIOR)?.into();
            init.prior(&device, Precision::F32)?
        }
        None => Prior::new(&config, &device),
    };
    let run = args.run.config(
        format!("prior {}", config.name),
        args.steps,
        settings,
        vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, tokenizer_json.clone())],
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.96,
            epsilon: 1e-8,
            weight_decay: args.weight_decay,
            clip: Some(4.0),
            ewma: args.ewma,
        },
    );
    let captions = held_out.iter().chain(&examples).map(|example| &example.captions);
    let mut hooks = match args.run.sheet_every {
        Some(_) => RunHooks::samples(captions, tokenizer.clone(), folder.decoder(&plain)?, config.clone()),
        None => RunHooks::without_sheets(),
    };
    let mut stage =
        PriorStage::new([&examples, &held_out], &encoder, &tokenizer, &config, schedule, &device)?;
    let (prior, _) = train(&mut stage, fresh, &run, &mut hooks, &Interrupt::listen()?)?;
    ModelFolder::write(&args.model, &[vec![(TOKENIZER, tokenizer_json)], prior_files(&prior)?].concat())?;
    writeln!(std::io::stdout(), "wrote the prior to {}", args.model.display())?;
    Ok(())
}
