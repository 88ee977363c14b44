//! `dalle dvae train`: fit the dVAE to the images of a dataset (stage 1).

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use dalle_data::{Share, TrainingData, log_line};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Dvae;
use dalle_model::footprint::Footprint;
use dalle_native::{ModelFolder, read_config};
use dalle_shared::files::{CONFIG, DECODER, ENCODER, PRIOR};
use dalle_train::dvae_data::{self, DvaeData, held_out};
use dalle_train::dvae_schedule::DvaeSchedule;
use dalle_train::dvae_training::DvaeStage;
use dalle_train::export::dvae_files;
use dalle_train::optimizer::{AdamWConfig, COPIES};
use dalle_train::ranks::Ranks;
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::CosineSchedule;
use image::RgbImage;
use serde::Serialize;

use super::run::{Job, KEPT_BY_DVAE, RunArgs, RunIdentity, updates};
use super::run_hooks::{CELLS, RunHooks};
use super::training_data::DataArgs;
use super::values;

const PAPER: DvaeSchedule = DvaeSchedule::PAPER;

/// Arguments of `dalle dvae train`. The defaults of the schedules are the paper's, scaled to the number of updates.
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Configuration of the model.
    #[arg(long)]
    #[serde(skip)]
    config: PathBuf,
    #[command(flatten)]
    #[serde(skip)]
    data: DataArgs,
    /// Model folder to write encoder and decoder into.
    #[arg(long)]
    #[serde(skip)]
    out: PathBuf,
    /// Updates in all. May be raised on resume; the schedules keep the lengths that they had.
    #[arg(long, default_value_t = DvaeSchedule::PAPER_STEPS, value_parser = updates())]
    #[serde(skip)]
    steps: u64,
    /// Images per update.
    #[arg(long, default_value_t = PAPER.batch, value_parser = values::batch())]
    batch: usize,
    /// First learning rate, which falls as a cosine.
    #[arg(long, alias = "step-size", default_value_t = PAPER.learning_rate.from, value_parser = values::positive)]
    learning_rate: f64,
    /// Last learning rate.
    #[arg(long, alias = "final-step-size", default_value_t = PAPER.learning_rate.to, value_parser = values::positive)]
    final_learning_rate: f64,
    /// Updates over which the learning rate falls [default: two fifths of all].
    #[arg(long, alias = "step-size-updates", value_name = "UPDATES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate_updates: Option<u64>,
    /// First weight of the KL term.
    #[arg(long, default_value_t = PAPER.beta.from, value_parser = values::not_negative)]
    beta_start: f64,
    /// Final weight of the KL term.
    #[arg(long, default_value_t = PAPER.beta.to, value_parser = values::not_negative)]
    beta: f64,
    /// Updates from the first to the final weight [default: a 600th of all].
    #[arg(long, value_name = "UPDATES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_updates: Option<u64>,
    /// Final temperature of the relaxation, which starts at 1.
    #[arg(long, default_value_t = PAPER.tau.to, value_parser = values::positive)]
    tau: f64,
    /// Updates over which it falls [default: a twentieth of all].
    #[arg(long, value_name = "UPDATES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tau_updates: Option<u64>,
    /// Decay of the average of the weights, per update.
    #[arg(long, default_value_t = AdamWConfig::DVAE.ewma, value_parser = values::decay)]
    ewma: f64,
    /// Model folder whose encoder and decoder to start from, instead of random weights; it may be the same.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    init: Option<PathBuf>,
    /// Train the decoder alone, on the codes of the encoder of --init, which stays as it is. A prior that was trained on those codes
    /// goes on fitting. Without Gumbel noise: the schedules of β and the temperature do not matter.
    #[arg(long, requires = "init")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    decoder_only: bool,
    /// Largest global norm of the gradients; larger ones are scaled down to it [default: none].
    #[arg(long, value_name = "NORM", value_parser = values::positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_norm: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

impl Args {
    /// The schedules of a run that was started with `steps` updates.
    fn schedule(&self, steps: u64) -> DvaeSchedule {
        let cosine = |from, to, updates: Option<u64>, default| CosineSchedule {
            from,
            to,
            updates: updates.unwrap_or(default),
        };
        let (rate, updates) = ([self.learning_rate, self.final_learning_rate], self.learning_rate_updates);
        DvaeSchedule {
            batch: self.batch,
            accumulate: self.run.accumulate,
            beta: cosine(self.beta_start, self.beta, self.beta_updates, steps / 600),
            tau: cosine(PAPER.tau.from, self.tau, self.tau_updates, steps / 20),
            learning_rate: cosine(rate[0], rate[1], updates, steps * 2 / 5),
            decoder_only: self.decoder_only,
            seed: self.run.seed,
        }
    }

    fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { ewma: self.ewma, clip: self.clip_norm, ..AdamWConfig::DVAE }
    }
}

/// SHA-256 of what the dVAE is trained from beside the dataset.
#[derive(Serialize)]
struct DvaeInputs {
    /// Encoder and decoder that training started from.
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<[String; 2]>,
}

/// The model folder whose dVAE training starts from.
fn open_init(path: &Path, config: &ModelConfig) -> Result<ModelFolder> {
    let folder = ModelFolder::open(path)?;
    ensure!(
        folder.config.dvae == config.dvae,
        "--init {} has a dVAE of {:?}, but --config asks for {:?}; expected the same sizes",
        path.display(),
        folder.config.dvae,
        config.dvae
    );
    Ok(folder)
}

/// Runs `dalle dvae train`.
///
/// # Errors
/// An input cannot be read, the device cannot hold the batch, or the run fails.
pub fn run(args: &Args) -> Result<()> {
    args.run.ranks.together(args.run.device, |ranks| train(args, ranks))
}

fn train(args: &Args, ranks: &Ranks) -> Result<()> {
    let config = read_config(&args.config)?;
    let init = args.init.as_deref().map(|path| open_init(path, &config)).transpose()?;
    let footprint = Footprint::new(&config);
    let what = format!("the dVAE of {}", config.name);
    let needed =
        args.run.check_memory(&what, args.batch, ranks, args.run.updates(true)?, |updates, part| {
            args.run.checkpointed(footprint.training_dvae(&config, updates, part, COPIES), KEPT_BY_DVAE)
        })?;
    let (device, _) = args.run.open_device()?;
    ModelFolder::check_target(&args.out)?;
    if ranks.is_first() && args.out.join(PRIOR).exists() {
        log_line(format_args!(
            "dalle: {} contains a prior, which was trained on the codebook of one encoder; if this training ends with another \
             encoder, it will not be written there; name another --out folder for a new dVAE",
            args.out.display()
        ));
    }
    let data = args.data.open(args.run.seed)?;
    data.require_images()?;
    let pixels = 3 * (config.image_size as u64).pow(2);
    args.data.check_memory(&data, needed, (args.batch, pixels), args.run.device)?;
    let images = DvaeData::new(&data, ranks.share(args.batch)?, config.image_size, args.run.seed)?;
    let held_out = held_out(&args.run.held_out(&args.data, &data)?, config.image_size)?;
    let mut hooks = match args.run.sheet_every {
        Some(_) if ranks.is_first() => RunHooks::reconstructions(&shown(&held_out, &data, &config)?, &config),
        _ => RunHooks::without_sheets(),
    };
    let hashes: Option<Result<_>> =
        init.as_ref().map(|init| Ok([init.sha256(ENCODER)?, init.sha256(DECODER)?]));
    let identity = RunIdentity {
        network: NetworkKind::Dvae,
        options: args,
        model: &config.dvae,
        data: data.identity(),
        inputs: DvaeInputs { init: hashes.transpose()? },
        plateau: args.run.plateau(),
    };
    let files = vec![(CONFIG, serde_json::to_vec_pretty(&config)?)];
    let job = Job {
        title: format!("dVAE {}", config.name),
        steps: args.steps,
        identity: serde_json::to_value(identity)?,
        files: files.clone(),
        optimizer: args.optimizer(),
        compression: None,
    };
    let schedule = args.schedule(args.run.schedule_steps(args.steps)?);
    device.seed(args.run.seed);
    let mut fresh = Dvae::new(&config.dvae, &device);
    if let Some(init) = init {
        fresh.encoder = init.load(ENCODER, fresh.encoder)?;
        fresh.decoder = init.load(DECODER, fresh.decoder)?;
    }
    let mut stage = DvaeStage::new(images, held_out, &config, schedule, device, ranks.clone());
    let dvae = args.run.train(&mut stage, fresh, &mut hooks, job, ranks)?;
    if !ranks.is_first() {
        return Ok(());
    }
    ModelFolder::write(&args.out, &[files, dvae_files(&dvae)?].concat())?;
    writeln!(std::io::stdout(), "wrote encoder and decoder to {}", args.out.display())?;
    Ok(())
}

/// Images for sheets: held-out ones, or else those of the first batch.
fn shown(held_out: &[RgbImage], data: &TrainingData, config: &ModelConfig) -> Result<Vec<RgbImage>> {
    if held_out.is_empty() {
        return dvae_data::held_out(&data.reader(Share::whole(CELLS)).items(0)?, config.image_size);
    }
    Ok(held_out.iter().take(CELLS).cloned().collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_defaults_of_training_are_the_papers() {
        let line = "dalle --config c --data d --run r --out o".split(' ');
        let args = Cli::try_parse_from(line).unwrap().args;
        assert_eq!(args.steps, DvaeSchedule::PAPER_STEPS);
        assert_eq!(args.schedule(args.steps), PAPER);
        assert_eq!(args.optimizer(), AdamWConfig::DVAE);
    }

    #[test]
    fn gradients_are_clipped_only_if_asked() {
        let line = "dalle --config c --data d --run r --out o --clip-norm 40";
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        assert_eq!(args.optimizer(), AdamWConfig { clip: Some(40.0), ..AdamWConfig::DVAE });
    }

    #[test]
    fn the_learning_rate_may_be_called_step_size() {
        let line = "dalle --config c --data d --run r --out o --step-size 1 --final-step-size 2 --step-size-updates 3";
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        let expected = CosineSchedule { from: 1.0, to: 2.0, updates: 3 };
        assert_eq!(args.schedule(args.steps).learning_rate, expected);
    }
}
