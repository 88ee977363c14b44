//! `dalle clip train`: fit CLIP, which chooses among samples.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Subcommand;
use dalle_data::{ImageIndex, TrainingData};
use dalle_kernels::clip::ClipUpdate;
use dalle_model::Device;
use dalle_model::clip::{Clip, ClipConfig, kernel_sizes};
use dalle_model::footprint::{Computed, Footprint};
use dalle_model::precision::Precision;
use dalle_native::{ModelFolder, read_clip_config};
use dalle_shared::Geometry;
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, TOKENIZER};
use dalle_train::clip_data::{ClipData, held_out};
use dalle_train::clip_schedule::ClipSchedule;
use dalle_train::clip_training::{ClipStage, check_batch};
use dalle_train::export::{check_replaces_own, clip_files, origin};
use dalle_train::optimizer::{AdamWConfig, COPIES};
use dalle_train::progress::bar;
use dalle_train::ranks::Ranks;
use dalle_train::reconstructed_dataset;
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::WarmupCosine;
use serde::Serialize;

use super::run::{Job, KEPT_BY_TRANSFORMER, RunArgs, RunIdentity, updates};
use super::run_hooks::RunHooks;
use super::training_data::DataArgs;
use super::values;

const PAPER: ClipSchedule = ClipSchedule::PAPER;

/// Arguments of `dalle clip`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ClipCommand,
}

#[derive(Subcommand)]
enum ClipCommand {
    /// Fit CLIP to captions and images.
    Train(ClipTrainArgs),
}

/// The defaults are those of CLIP's own paper.
#[derive(clap::Args, Serialize)]
struct ClipTrainArgs {
    /// Model folder with a tokenizer; CLIP is added to it.
    #[arg(long)]
    #[serde(skip)]
    model: PathBuf,
    /// Configuration of CLIP, such as configs/drawings-128.clip.json.
    #[arg(long)]
    #[serde(skip)]
    config: PathBuf,
    #[command(flatten)]
    #[serde(skip)]
    data: DataArgs,
    /// Updates in all. May be raised on resume; the schedule keeps the length that it had.
    #[arg(long, default_value_t = ClipSchedule::PAPER_STEPS, value_parser = updates())]
    #[serde(skip)]
    steps: u64,
    /// Pairs of caption and image per update, at least 2. Each pair is contrasted with all others.
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
    #[arg(long, default_value_t = AdamWConfig::CLIP.weight_decay, value_parser = values::not_negative)]
    weight_decay: f64,
    /// Probability that BPE drops a merge.
    #[arg(long, default_value_t = PAPER.bpe_dropout, value_parser = values::probability)]
    bpe_dropout: f32,
    /// Probability that an image is replaced by its reconstruction by the folder's dVAE, which is how samples look.
    #[arg(long, default_value_t = PAPER.reconstructed, value_parser = values::probability)]
    reconstructed: f32,
    /// Decay of the average of the weights, per update; 0 keeps the last ones.
    #[arg(long, default_value_t = AdamWConfig::CLIP.ewma, value_parser = values::decay)]
    ewma: f64,
    /// Replace CLIP of another training in the model folder.
    #[arg(long)]
    #[serde(skip)]
    overwrite: bool,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

impl ClipTrainArgs {
    /// The schedule of a run that was started with `steps` updates.
    fn schedule(&self, steps: u64) -> ClipSchedule {
        ClipSchedule {
            batch: self.batch,
            accumulate: self.run.accumulate,
            learning_rate: WarmupCosine {
                peak: self.learning_rate,
                warmup: self.warmup,
                updates: self.learning_rate_updates.unwrap_or(steps),
            },
            bpe_dropout: self.bpe_dropout,
            reconstructed: self.reconstructed,
            seed: self.run.seed,
        }
    }

    fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { weight_decay: self.weight_decay, ewma: self.ewma, ..AdamWConfig::CLIP }
    }
}

/// What CLIP is trained from beside the dataset.
#[derive(Serialize)]
struct ClipInputs {
    geometry: Geometry,
    /// SHA-256 of encoder and decoder, if they reconstruct images.
    #[serde(skip_serializing_if = "Option::is_none")]
    dvae: Option<String>,
}

/// Bytes of the comparison of all captions of a batch with all its images: cosines, scaled, and of each side the logarithms, their
/// exponentials and gradients.
fn all_pairs(batch: u64) -> u64 {
    8 * batch * batch * Precision::F32.bytes()
}

/// Runs `dalle clip`.
///
/// # Errors
/// An input cannot be read, the device cannot hold the batch, or the run fails.
pub fn run(args: Args) -> Result<()> {
    let ClipCommand::Train(args) = args.command;
    args.run.ranks.together(args.run.device, |ranks| train(&args, ranks))
}

fn train(args: &ClipTrainArgs, ranks: &Ranks) -> Result<()> {
    ensure!(args.run.sheet_every.is_none(), "--sheet-every: CLIP makes no images; leave the option out");
    let folder = ModelFolder::open(&args.model)?;
    let model = folder.config.clone();
    let tokenizer = folder.tokenizer()?;
    let config =
        ClipConfig { tokenizer: Some(folder.sha256(TOKENIZER)?), ..read_clip_config(&args.config, &model)? };
    let data = args.data.open(args.run.seed)?;
    data.require_images()?;
    // Before the memory: a batch that would fit there is of no use if it does not fit here.
    check_batch(args.batch, data.examples())?;
    let (footprint, with_dvae) = (Footprint::new(&model), args.reconstructed > 0.0);
    let what = format!("CLIP of {}", model.name);
    let updates = args.run.device.computed(ClipUpdate::supports(&kernel_sizes(&config, &model)));
    ensure!(
        updates == Computed::Burn || !args.run.gradient_checkpointing,
        "--gradient-checkpointing: it has no effect on the CPU; leave it out, and use --accumulate to keep fewer pairs in memory"
    );
    // As on Burn, a part of the batch is kept in memory.
    let needed = args.run.check_memory(&what, args.batch, ranks, Computed::Burn, |_, part| {
        let training = footprint.training_clip(&config, &model, updates, part, COPIES, with_dvae);
        let mut training = args.run.checkpointed(training, KEPT_BY_TRANSFORMER);
        // Whatever the parts, all captions are compared with all images.
        training.activations += all_pairs(args.batch as u64) - all_pairs(part);
        training
    })?;
    let pixels = 3 * (model.image_size as u64).pow(2);
    args.data.check_memory(&data, needed, (args.batch, pixels), args.run.device)?;
    let held_out = held_out(&args.run.held_out(&args.data, &data)?, &tokenizer, &model)?;
    let (device, plain) = args.run.open_device()?;
    let hashes = || anyhow::Ok([folder.sha256(ENCODER)?, folder.sha256(DECODER)?].concat());
    let dvae = with_dvae.then(hashes).transpose()?;
    let identity = RunIdentity {
        network: NetworkKind::Clip,
        options: args,
        model: &config,
        data: data.identity(),
        inputs: ClipInputs { geometry: model.geometry(), dvae: dvae.clone() },
        plateau: args.run.plateau(),
    };
    let own = vec![(CLIP_CONFIG, serde_json::to_vec_pretty(&config)?)];
    let shared = vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, folder.read(TOKENIZER)?)];
    let job = Job {
        title: format!("CLIP {}", model.name),
        steps: args.steps,
        identity: serde_json::to_value(identity)?,
        files: [own.clone(), shared].concat(),
        optimizer: args.optimizer(),
        compression: None,
    };
    let origin = origin(&job.identity);
    if !args.overwrite {
        check_replaces_own(&args.model, CLIP, args.run.folder(), &origin)?;
    }
    let schedule = args.schedule(args.run.schedule_steps(args.steps)?);
    device.seed(args.run.seed);
    let fresh = Clip::new(&config, &model, &device);
    let reconstructions = match &dvae {
        // The first rank writes the images; the others read them.
        Some(hash) => ranks.after_first(|| reconstruct(args, &data, &folder, hash, &plain))?,
        None => Vec::new(),
    };
    let pairs = ClipData::new(&data, ranks.share(args.batch)?, reconstructions, tokenizer, &model, schedule)?;
    let mut stage = ClipStage::new(pairs, held_out, (&config, &model), schedule, device, ranks.clone());
    let clip = args.run.train(&mut stage, fresh, &mut RunHooks::without_sheets(), job, ranks)?;
    if !ranks.is_first() {
        return Ok(());
    }
    ModelFolder::write(&args.model, &[own, clip_files(&clip, &origin)?].concat())?;
    writeln!(std::io::stdout(), "wrote CLIP to {}", args.model.display())?;
    Ok(())
}

/// The training images of each dataset as the folder's dVAE reconstructs them, made at the first start of the run.
fn reconstruct(
    args: &ClipTrainArgs,
    data: &TrainingData,
    folder: &ModelFolder,
    hash: &str,
    device: &Device,
) -> Result<Vec<ImageIndex>> {
    let dvae = (folder.encoder(device)?, folder.decoder(device)?);
    let indexes = data.datasets().map(|(shards, _)| {
        let progress = bar(shards.manifest().train as u64, "reconstructing images");
        let (run, seed) = (args.run.folder(), args.run.seed);
        let done = || progress.inc(1);
        let shards =
            reconstructed_dataset::in_run_folder(run, shards, &dvae, hash, &folder.config, seed, done)?;
        progress.finish_and_clear();
        Ok(ImageIndex::open(&shards)?)
    });
    indexes.collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ClipTrainArgs,
    }

    #[test]
    fn the_defaults_of_training_are_those_of_clips_paper() {
        let line = "dalle --model m --config c --data d --run r".split(' ');
        let args = Cli::try_parse_from(line).unwrap().args;
        assert_eq!(args.steps, ClipSchedule::PAPER_STEPS);
        assert_eq!(args.schedule(args.steps), PAPER);
        assert_eq!(args.optimizer(), AdamWConfig::CLIP);
    }
}
