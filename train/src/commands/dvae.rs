//! `dalle dvae`: train the dVAE, and use it on single pictures.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::config::DOWNSAMPLING;
use dalle_model::device::DeviceName;
use dalle_model::dvae::Dvae;
use dalle_model::weights::to_safetensors;
use dalle_shared::files::{CONFIG, DECODER, ENCODER};
use serde::Serialize;

use crate::data::{Dataset, Split};
use crate::dvae_training::{DvaeSchedule, DvaeStage};
use crate::model_folder::{ModelFolder, read_config};
use crate::optimizer::AdamWConfig;
use crate::schedule::Cosine;
use crate::tokens::{TokenGrid, decode_picture, encode_pictures};
use crate::training::{Plan, train};

/// Arguments of `dalle dvae`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: DvaeCommand,
}

#[derive(Subcommand)]
enum DvaeCommand {
    /// Fit the dVAE to the pictures of a dataset (stage 1).
    Train(TrainArgs),
    /// Turn a picture into a tokens.json.
    Encode(EncodeArgs),
    /// Turn a tokens.json into a picture.
    Decode(DecodeArgs),
}

/// The defaults of the schedules are the paper's, scaled to the number of updates.
#[derive(clap::Args, Serialize)]
struct TrainArgs {
    /// Configuration of the model.
    #[arg(long)]
    config: PathBuf,
    /// Dataset folder.
    #[arg(long)]
    data: PathBuf,
    /// Folder for checkpoints and the loss curve; the same command continues an interrupted run.
    #[arg(long)]
    #[serde(skip)]
    run: PathBuf,
    /// Model folder to write encoder and decoder into.
    #[arg(long)]
    #[serde(skip)]
    out: PathBuf,
    /// Updates.
    #[arg(long, default_value_t = 3_000_000)]
    steps: u64,
    /// Pictures per update.
    #[arg(long, default_value_t = 512)]
    batch: usize,
    /// First step size; falls as a cosine over two fifths of the updates.
    #[arg(long, default_value_t = 1e-4)]
    step_size: f64,
    /// Last step size.
    #[arg(long, default_value_t = 1.25e-6)]
    final_step_size: f64,
    /// Updates over which the step size falls [default: two fifths of all].
    #[arg(long)]
    step_size_updates: Option<u64>,
    /// Final weight of the KL term.
    #[arg(long, default_value_t = 6.6)]
    beta: f64,
    /// Updates over which it rises [default: a 600th of all].
    #[arg(long)]
    beta_updates: Option<u64>,
    /// Final temperature of the relaxation, which starts at 1.
    #[arg(long, default_value_t = 1.0 / 16.0)]
    tau: f64,
    /// Updates over which it falls [default: a twentieth of all].
    #[arg(long)]
    tau_updates: Option<u64>,
    /// Decay of the average of the weights.
    #[arg(long, default_value_t = 0.999)]
    ewma: f64,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    #[serde(skip)]
    device: DeviceName,
    /// Updates between logged values.
    #[arg(long, default_value_t = 50)]
    log_every: u64,
    /// Seconds between checkpoints.
    #[arg(long, default_value_t = 300)]
    #[serde(skip)]
    save_seconds: u64,
}

#[derive(clap::Args)]
struct EncodeArgs {
    /// A picture.
    picture: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The tokens.json to write.
    #[arg(long)]
    out: PathBuf,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

#[derive(clap::Args)]
struct DecodeArgs {
    /// A tokens.json.
    tokens: PathBuf,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The picture to write (.png).
    #[arg(long)]
    out: PathBuf,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle dvae`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        DvaeCommand::Train(args) => train_dvae(&args),
        DvaeCommand::Encode(args) => encode(&args),
        DvaeCommand::Decode(args) => decode(&args),
    }
}

fn train_dvae(args: &TrainArgs) -> Result<()> {
    let config = read_config(&args.config)?;
    let device = args.device.open()?.autodiff();
    let dataset = Dataset::open(&args.data)?;
    let images = dataset.split(Split::Train).map(|example| example.image.clone()).collect();
    let cosine = |from, to, updates: Option<u64>, share: u64| Cosine {
        from,
        to,
        updates: updates.unwrap_or(args.steps / share),
    };
    let schedule = DvaeSchedule {
        batch: args.batch,
        beta: cosine(0.0, args.beta, args.beta_updates, 600),
        tau: cosine(1.0, args.tau, args.tau_updates, 20),
        step_size: Cosine {
            from: args.step_size,
            to: args.final_step_size,
            updates: args.step_size_updates.unwrap_or(args.steps * 2 / 5),
        },
        seed: args.seed,
    };
    let mut settings = serde_json::to_value(args)?;
    settings["model"] = serde_json::to_value(&config.dvae)?;
    let plan = Plan {
        title: format!("dVAE {}", config.name),
        steps: args.steps,
        log_every: args.log_every,
        save_seconds: args.save_seconds,
        run: args.run.clone(),
        settings,
        optimizer: AdamWConfig {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-4,
            clip: None,
            ewma: args.ewma,
        },
    };
    device.seed(args.seed);
    let fresh = Dvae::new(&config.dvae, &device);
    let mut stage = DvaeStage::new(images, config.image_size, schedule, device)?;
    let (dvae, _) = train(&mut stage, fresh, &plan)?;
    ModelFolder::write(
        &args.out,
        &[
            (CONFIG, serde_json::to_vec_pretty(&config)?),
            (ENCODER, to_safetensors(&dvae.encoder, FloatDType::F16)?),
            (DECODER, to_safetensors(&dvae.decoder, FloatDType::F16)?),
        ],
    )?;
    println!("wrote encoder and decoder to {}", args.out.display());
    Ok(())
}

fn encode(args: &EncodeArgs) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let encoder = folder.encoder(&args.device.open()?)?;
    let picture = image::open(&args.picture)
        .with_context(|| format!("cannot read the picture {}", args.picture.display()))?
        .to_rgb8();
    ensure!(
        [picture.width(), picture.height()]
            .iter()
            .all(|side| *side > 0 && (*side as usize).is_multiple_of(DOWNSAMPLING)),
        "{} is {}×{} pixels; both must be multiples of {DOWNSAMPLING}, {size}×{size} for pictures that the prior knows",
        args.picture.display(),
        picture.width(),
        picture.height(),
        size = folder.config.image_size
    );
    let grid = picture.width() as usize / DOWNSAMPLING;
    let tokens = encode_pictures(&encoder, &[picture])?.swap_remove(0);
    let json = serde_json::to_string(&TokenGrid { grid, tokens })?;
    std::fs::write(&args.out, json).with_context(|| format!("cannot write {}", args.out.display()))
}

fn decode(args: &DecodeArgs) -> Result<()> {
    let folder = ModelFolder::open(&args.model)?;
    let TokenGrid { grid, tokens } = TokenGrid::read(&args.tokens, folder.config.dvae.vocab)?;
    let decoder = folder.decoder(&args.device.open()?)?;
    let picture = decode_picture(&decoder, &tokens, grid)?;
    picture.save(&args.out).with_context(|| format!("cannot write {}", args.out.display()))
}
