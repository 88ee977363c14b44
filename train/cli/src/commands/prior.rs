//! `dalle prior train`: fit the prior to captions and images (stage 2).

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use dalle_data::{Dataset, Example, Split};
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::prior::Prior;
use dalle_native::{ModelFolder, read_tokenizer};
use dalle_shared::files::{CONFIG, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::sha256_hex;
use dalle_train::export::prior_files;
use dalle_train::optimizer::{AdamWConfig, COPIES};
use dalle_train::prior_training::{PriorSchedule, PriorStage};
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::WarmupCosine;
use serde::Serialize;

use super::run::{Job, KEPT_BY_TRANSFORMER, RunArgs, RunIdentity, updates};
use super::run_hooks::RunHooks;
use super::values;

const PAPER: PriorSchedule = PriorSchedule::PAPER;

/// Arguments of `dalle prior`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: PriorCommand,
}

#[derive(Subcommand)]
enum PriorCommand {
    /// Fit the prior to captions and the tokens of their images.
    Train(TrainArgs),
}

/// The defaults are the paper's.
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
    /// Model folder whose prior to start from, instead of random weights; it may be the same.
    #[arg(long)]
    #[serde(skip)]
    init: Option<PathBuf>,
    /// Updates in all. May be raised on resume; the schedule keeps the length that it had.
    #[arg(long, default_value_t = PriorSchedule::PAPER_STEPS, value_parser = updates())]
    #[serde(skip)]
    steps: u64,
    /// Pairs of caption and image per update.
    #[arg(long, default_value_t = PAPER.batch, value_parser = values::batch())]
    batch: usize,
    /// Highest learning rate, reached after the warm-up.
    #[arg(long, alias = "step-size", default_value_t = PAPER.learning_rate.peak, value_parser = values::positive)]
    learning_rate: f64,
    /// Updates of warm-up.
    #[arg(long, value_name = "UPDATES", default_value_t = PAPER.learning_rate.warmup)]
    warmup: u64,
    /// Updates after which the learning rate has fallen to a tenth [default: all].
    #[arg(long, value_name = "UPDATES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate_updates: Option<u64>,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = AdamWConfig::PRIOR.weight_decay, value_parser = values::not_negative)]
    weight_decay: f64,
    /// Probability that BPE drops a merge.
    #[arg(long, default_value_t = PAPER.bpe_dropout, value_parser = values::probability)]
    bpe_dropout: f32,
    /// Share of pairs that are trained without their caption; `--guidance` in sampling needs some.
    #[arg(long, default_value_t = PAPER.caption_dropout, value_parser = values::probability)]
    caption_dropout: f32,
    /// Decay of the average of the weights, per update.
    #[arg(long, default_value_t = AdamWConfig::PRIOR.ewma, value_parser = values::decay)]
    ewma: f64,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

impl TrainArgs {
    /// The schedule of a run that was started with `steps` updates.
    fn schedule(&self, steps: u64) -> PriorSchedule {
        PriorSchedule {
            batch: self.batch,
            accumulate: self.run.accumulate,
            learning_rate: WarmupCosine {
                peak: self.learning_rate,
                warmup: self.warmup,
                updates: self.learning_rate_updates.unwrap_or(steps),
            },
            bpe_dropout: self.bpe_dropout,
            caption_dropout: self.caption_dropout,
            seed: self.run.seed,
        }
    }

    fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { weight_decay: self.weight_decay, ewma: self.ewma, ..AdamWConfig::PRIOR }
    }
}

/// SHA-256 of what the prior is trained from beside the dataset.
#[derive(Serialize)]
struct Inputs {
    encoder: String,
    tokenizer: String,
    /// Weights that training started from.
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<String>,
}

/// Runs `dalle prior`.
///
/// # Errors
/// An input cannot be read, the device cannot hold the batch, or the run fails.
pub fn run(args: Args) -> Result<()> {
    let PriorCommand::Train(args) = args.command;
    let folder = ModelFolder::open(&args.model)?;
    let config = folder.config.clone();
    let footprint = Footprint::new(&config);
    let what = format!("the prior of {}", config.name);
    args.run.check_memory(&what, args.batch, |part| {
        args.run.checkpointed(footprint.training_prior(part, COPIES), KEPT_BY_TRANSFORMER)
    })?;
    let (device, plain) = args.run.open_device()?;
    let encoder = folder.encoder(&plain)?;
    let (tokenizer, tokenizer_json) = read_tokenizer(&args.tokenizer, &config)?;
    let dataset = Dataset::open(&args.data)?;
    let held_out = args.run.held_out(&dataset)?;
    let examples: Vec<Example> = dataset.split(Split::Train).cloned().collect();
    let init = args.init.as_deref().map(ModelFolder::open).transpose()?;
    let identity = RunIdentity {
        network: NetworkKind::Prior,
        options: &args,
        model: &config.prior,
        data: dataset.hash(),
        inputs: Inputs {
            encoder: folder.sha256(ENCODER)?,
            tokenizer: sha256_hex(&tokenizer_json),
            init: init.as_ref().map(|init| init.sha256(PRIOR)).transpose()?,
        },
        plateau: args.run.plateau(),
    };
    let job = Job {
        title: format!("prior {}", config.name),
        steps: args.steps,
        identity: serde_json::to_value(identity)?,
        files: vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, tokenizer_json.clone())],
        optimizer: args.optimizer(),
    };
    let schedule = args.schedule(args.run.schedule_steps(args.steps)?);
    let mut hooks = match args.run.sheet_every {
        Some(_) => {
            let captions = held_out.iter().chain(&examples).map(|example| &example.captions);
            RunHooks::samples(captions, tokenizer.clone(), folder.decoder(&plain)?, config.clone())
        }
        None => RunHooks::without_sheets(),
    };
    device.seed(args.run.seed);
    let fresh = match init {
        Some(init) => init.prior(&device, Precision::F32)?,
        None => Prior::new(&config, &device),
    };
    let data = [examples.as_slice(), &held_out];
    let mut stage = PriorStage::new(data, &encoder, &tokenizer, &config, schedule, &device)?;
    let prior = args.run.train(&mut stage, fresh, &mut hooks, job)?;
    ModelFolder::write(&args.model, &[vec![(TOKENIZER, tokenizer_json)], prior_files(&prior)?].concat())?;
    writeln!(std::io::stdout(), "wrote the prior to {}", args.model.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: TrainArgs,
    }

    #[test]
    fn the_defaults_of_training_are_the_papers() {
        let line = "dalle --model m --data d --tokenizer t --run r".split(' ');
        let args = Cli::try_parse_from(line).unwrap().args;
        assert_eq!(args.steps, PriorSchedule::PAPER_STEPS);
        assert_eq!(args.schedule(args.steps), PAPER);
        assert_eq!(args.optimizer(), AdamWConfig::PRIOR);
    }
}
