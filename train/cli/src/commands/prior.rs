//! `dalle prior train`: fit the prior to captions and images (stage 2).

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use dalle_data::{Item, Share, Split, TrainingData};
use dalle_kernels::prior::PriorUpdate;
use dalle_model::Device;
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::prior::{Prior, kernel_sizes};
use dalle_native::{ModelFolder, read_tokenizer};
use dalle_shared::files::{CONFIG, ENCODER, PRIOR, TOKENIZER, VOCABULARY};
use dalle_shared::{Vocabulary, sha256_hex};
use dalle_train::export::{check_replaces_own, origin, prior_files};
use dalle_train::optimizer::{AdamWConfig, COPIES};
use dalle_train::power_sgd;
use dalle_train::prior_data::{PriorData, held_out as held_out_pairs};
use dalle_train::prior_schedule::PriorSchedule;
use dalle_train::prior_training::PriorStage;
use dalle_train::progress::bar;
use dalle_train::ranks::Ranks;
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::WarmupCosine;
use dalle_train::shards::Compress;
use dalle_train::token_dataset::{self, CROPS};
use serde::Serialize;

use super::run::{Job, KEPT_BY_TRANSFORMER, RunArgs, RunIdentity, updates};
use super::run_hooks::{CELLS, RunHooks};
use super::training_data::DataArgs;
use super::values::{self, PowerSgdRank};

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
    Train(PriorTrainArgs),
}

/// The defaults are the paper's.
#[derive(clap::Args, Serialize)]
struct PriorTrainArgs {
    /// Model folder with a trained dVAE; the prior and the tokenizer are added to it.
    #[arg(long)]
    #[serde(skip)]
    model: PathBuf,
    #[command(flatten)]
    #[serde(skip)]
    data: DataArgs,
    /// Random crops that are encoded of each image, if the dataset holds images [default: one for each epoch, at most 8].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    #[serde(skip)]
    crops: Option<u64>,
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
    /// Highest share of an image's tokens that the prior sees replaced by others of the image. Above 0, it learns from few images to draw
    /// by the caption, instead of by the tokens before. 0 in the paper.
    #[arg(long, value_name = "SHARE", default_value_t = PAPER.image_noise, value_parser = values::probability)]
    #[serde(skip_serializing_if = "is_zero")]
    image_noise: f32,
    /// Decay of the average of the weights, per update.
    #[arg(long, default_value_t = AdamWConfig::PRIOR.ewma, value_parser = values::decay)]
    ewma: f64,
    /// Type of the resblocks' matrices in training: f32, bf16 or f16. Weights and the optimizer's state stay in f32. 16 bits save memory;
    /// on the CPU they are slower.
    #[arg(long, default_value_t = Precision::F32)]
    #[serde(serialize_with = "as_text", skip_serializing_if = "is_f32")]
    dtype: Precision,
    /// Scale the gradients of all resblocks alike in 16 bits, instead of each by a scale of its own (appendix D).
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    one_gradient_scale: bool,
    /// Compress gradients between machines by PowerSGD (appendix E): the number of columns for each rank's rows of a matrix, of which
    /// the paper has 112 for 496 rows; `auto` for the paper's share, if that is measured to be faster; `off`.
    #[arg(long, value_name = "COLUMNS", default_value = "off", value_parser = values::power_sgd_rank)]
    #[serde(skip)]
    powersgd_rank: PowerSgdRank,
    /// Replace a prior of another training in the model folder.
    #[arg(long)]
    #[serde(skip)]
    overwrite: bool,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

impl PriorTrainArgs {
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
            image_noise: self.image_noise,
            seed: self.run.seed,
        }
    }

    /// Compression between machines, for a prior of this width.
    fn compression(&self, width: usize, ranks: &Ranks) -> Option<Compress> {
        let paper = |columns: usize| power_sgd::Config::paper(columns, self.run.seed);
        match self.powersgd_rank {
            PowerSgdRank::Off => None,
            PowerSgdRank::Columns(columns) => Some(Compress { config: paper(columns), on_trial: false }),
            PowerSgdRank::Auto => {
                let rows = width.div_ceil(ranks.per_machine());
                let columns = (rows as f64 * power_sgd::PAPER_SHARE).round().max(1.0) as usize;
                Some(Compress { config: paper(columns), on_trial: true })
            }
        }
    }

    fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { weight_decay: self.weight_decay, ewma: self.ewma, ..AdamWConfig::PRIOR }
    }
}

/// SHA-256 of what the prior is trained from beside the dataset.
#[derive(Serialize)]
struct PriorInputs {
    encoder: String,
    tokenizer: String,
    /// Crops of each image, if they are encoded here and differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    crops: Option<u64>,
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
    args.run.ranks.together(args.run.device, |ranks| train(&args, ranks))
}

fn train(args: &PriorTrainArgs, ranks: &Ranks) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let config = folder.config.clone();
    let footprint = Footprint::new(&config);
    let what = format!("the prior of {}", config.name);
    let updates =
        args.run.updates(args.dtype == Precision::F32 && PriorUpdate::supports(&kernel_sizes(&config)))?;
    let needed = args.run.check_memory(&what, args.batch, ranks, updates, |updates, part| {
        args.run.checkpointed(footprint.training_prior(&config, updates, part, COPIES), KEPT_BY_TRANSFORMER)
    })?;
    let (device, plain) = args.run.open_device()?;
    let (tokenizer, tokenizer_json) = read_tokenizer(&args.tokenizer, &config)?;
    let given = args.data.open(args.run.seed)?;
    let tokens = 2 * config.geometry().image_length() as u64;
    args.data.check_memory(&given, needed, (args.batch, tokens), args.run.device)?;
    let steps = args.run.schedule_steps(args.steps)?;
    let crops = args.crops.unwrap_or_else(|| epochs(steps, args.batch, &given).min(CROPS));
    let init = args.init.as_deref().map(ModelFolder::open).transpose()?;
    let identity = RunIdentity {
        network: NetworkKind::Prior,
        options: args,
        model: &config.prior,
        data: given.identity(),
        inputs: PriorInputs {
            encoder: folder.sha256(ENCODER)?,
            crops: depends_on_crops(&given, config.image_size).then_some(crops),
            tokenizer: sha256_hex(&tokenizer_json),
            init: init.as_ref().map(|init| init.sha256(PRIOR)).transpose()?,
        },
        plateau: args.run.plateau(),
    };
    let known = (VOCABULARY, vocabulary(&given)?);
    // The prior that training starts from may be replaced.
    let is_init = identity.inputs.init.is_some() && identity.inputs.init == folder.sha256(PRIOR).ok();
    let job = Job {
        title: format!("prior {}", config.name),
        steps: args.steps,
        identity: serde_json::to_value(identity)?,
        files: vec![(CONFIG, folder.config_json.clone()), (TOKENIZER, tokenizer_json.clone()), known.clone()],
        optimizer: args.optimizer(),
        compression: args.compression(config.prior.d_model(), ranks),
    };
    let origin = origin(&job.identity);
    if !args.overwrite && !is_init {
        check_replaces_own(&args.model, PRIOR, args.run.folder(), &origin)?;
    }
    let schedule = args.schedule(steps);
    // The first rank writes the tokens; the others read them.
    let encode = || encode(args, &given, &folder, crops, &plain);
    let data = ranks.after_first(encode)?;
    let held_out = args.run.held_out(&args.data, &data)?;
    let mut hooks = match args.run.sheet_every {
        Some(_) if ranks.is_first() => {
            let captions = shown(&held_out, &data)?;
            RunHooks::samples(captions, tokenizer.clone(), folder.decoder(&plain)?, config.clone())
        }
        _ => RunHooks::without_sheets(),
    };
    device.seed(args.run.seed);
    let fresh = match init {
        Some(init) => init.prior(&device, Precision::F32)?,
        None => Prior::new(&config, &device),
    };
    let held_out = held_out_pairs(&held_out, &tokenizer, config.text_length)?;
    let share = ranks.share(args.batch)?;
    let pairs = PriorData::new(&data, share, &tokenizer, config.text_length, schedule)?;
    let mut stage = PriorStage::new(pairs, held_out, &config, schedule, &device, ranks.clone()).in_precision(
        args.dtype,
        config.prior.layers,
        args.one_gradient_scale,
    );
    let prior = args.run.train(&mut stage, fresh, &mut hooks, job, ranks)?;
    if !ranks.is_first() {
        return Ok(());
    }
    ModelFolder::write(
        &args.model,
        &[vec![(TOKENIZER, tokenizer_json), known], prior_files(&prior, &origin)?].concat(),
    )?;
    writeln!(std::io::stdout(), "wrote the prior to {}", args.model.display())?;
    Ok(())
}

/// Most training examples whose captions are read as names.
const NAMED: usize = 20_000;

/// What the captions of the datasets can say. The names of a dataset that no recipe made are its main captions, if it is small.
fn vocabulary(data: &TrainingData) -> Result<Vec<u8>> {
    let mut all = Vocabulary::default();
    for (shards, _) in data.datasets() {
        let path = shards.folder().join(VOCABULARY);
        if path.exists() {
            let json = fs::read(&path).with_context(|| path.display().to_string())?;
            let own = serde_json::from_slice(&json).with_context(|| {
                format!("{}: expected the vocabulary that `dalle data build` wrote", path.display())
            })?;
            all.merge(own);
        } else if shards.manifest().train <= NAMED {
            for entry in shards.entries(Some(Split::Train)) {
                *all.names.entry(entry?.record()?.captions.main()).or_default() += 1;
            }
        }
    }
    Ok(serde_json::to_vec(&all)?)
}

fn as_text<S: serde::Serializer>(precision: &Precision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(precision)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// How many times `steps` updates read the data, rounded up.
fn epochs(steps: u64, batch: usize, data: &TrainingData) -> u64 {
    steps.saturating_mul(batch as u64).div_ceil(data.examples() as u64)
}

/// Whether the number of crops changes what is trained on: whether there are images larger than the model's.
fn depends_on_crops(data: &TrainingData, image_size: usize) -> bool {
    let mut manifests = data.datasets().map(|(shards, _)| shards.manifest());
    manifests.any(|manifest| manifest.tokens.is_none() && manifest.image_size as usize > image_size)
}

/// The tokens of all datasets. Those of images are encoded in the run folder at the first start of the run.
fn encode(
    args: &PriorTrainArgs,
    given: &TrainingData,
    folder: &ModelFolder,
    crops: u64,
    device: &Device,
) -> Result<TrainingData> {
    let encoder = folder.sha256(ENCODER)?;
    let tokens = given.datasets().map(|(shards, weight)| {
        let format =
            token_dataset::format(shards, &folder.config, encoder.clone(), crops as usize, args.run.seed);
        if shards.manifest().tokens.is_some() {
            token_dataset::check(shards, &format)?;
            return Ok((shards.clone(), weight));
        }
        let progress = bar(shards.manifest().records as u64, "encoding images");
        let config = &folder.config;
        let load = || Ok(folder.encoder(device)?);
        let done = || progress.inc(1);
        let tokens = token_dataset::in_run_folder(args.run.folder(), shards, &format, config, load, done)?;
        progress.finish_and_clear();
        Ok((tokens, weight))
    });
    args.data.training_data(tokens.collect::<Result<_>>()?, Split::Train, args.run.seed)
}

/// Captions for sheets: held-out ones, or else those of the first batch.
fn shown(held_out: &[Item], data: &TrainingData) -> Result<Vec<String>> {
    let mut items = held_out.to_vec();
    if items.is_empty() {
        items = data.reader(Share::whole(CELLS)).items(0)?;
    }
    items.iter().take(CELLS).map(|item| Ok(item.entry.record()?.captions.main())).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: PriorTrainArgs,
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
