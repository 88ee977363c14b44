//! `dalle dvae`: train the dVAE, and use it on single pictures.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::dvae::Dvae;
use dalle_model::plan::Plan;
use dalle_model::weights::to_safetensors;
use dalle_native::device::DeviceName;
use dalle_shared::files::{CONFIG, DECODER, ENCODER, PRIOR};
use dalle_shared::files::{CONFIG, PRIOR};
use image::RgbImage;
use indicatif::ProgressIterator;
use serde::Serialize;

use crate::png::write_png;
use dalle_data::{Dataset, MANIFEST, Split, say};
use dalle_native::publish::write_file;
use dalle_native::{ModelFolder, read_config};
use dalle_train::dvae_training::{DvaeSchedule, DvaeStage};
use dalle_train::export::dvae_files;
use dalle_train::interrupt::Interrupt;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::progress::bar;
use dalle_train::run_state::NetworkKind;
use dalle_train::schedule::CosineSchedule;
use dalle_train::tokens::{TokenGrid, decode_picture, read_picture};
use dalle_train::training::train;

use super::run::RunArgs;
use super::run_hooks::RunHooks;
use super::{outputs, values};

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
    /// Turn a picture into a tokens.json, or many into lines of JSON.
    Encode(EncodeArgs),
    /// Turn a tokens.json into a picture.
    Decode(DecodeArgs),
}

/// The defaults of the schedules are the paper's, scaled to the number of updates.
#[derive(clap::Args, Serialize)]
struct TrainArgs {
    /// Configuration of the model.
    #[arg(long)]
    #[serde(skip)]
    config: PathBuf,
    /// Dataset folder.
    #[arg(long)]
    #[serde(skip)]
    data: PathBuf,
    /// Model folder to write encoder and decoder into.
    #[arg(long)]
    #[serde(skip)]
    out: PathBuf,
    /// Updates in all; may be raised to make a run longer, whose schedules stay as they are.
    #[serde(skip)]
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Pictures per update.
    #[arg(long, default_value_t = 512, value_parser = values::batch())]
    batch: usize,
    /// First step size; falls as a cosine over two fifths of the updates.
    #[arg(long, default_value_t = 1e-4, value_parser = values::positive)]
    step_size: f64,
    /// Last step size.
    #[arg(long, default_value_t = 1.25e-6, value_parser = values::positive)]
    final_step_size: f64,
    /// Updates over which the step size falls [default: two fifths of all].
    #[arg(long)]
    step_size_updates: Option<u64>,
    /// Final weight of the KL term.
    #[arg(long, default_value_t = 6.6, value_parser = values::not_negative)]
    beta: f64,
    /// Updates over which it rises [default: a 600th of all].
    #[arg(long)]
    beta_updates: Option<u64>,
    /// Final temperature of the relaxation, which starts at 1.
    #[arg(long, default_value_t = 1.0 / 16.0, value_parser = values::positive)]
    tau: f64,
    /// Updates over which it falls [default: a twentieth of all].
    #[arg(long)]
    tau_updates: Option<u64>,
    /// Decay of the average of the weights.
    #[arg(long, default_value_t = 0.999, value_parser = values::decay)]
    ewma: f64,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
}

impl TrainArgs {
    /// The schedules of a run that was started with `steps` updates.
    fn schedule(&self, steps: u64) -> DvaeSchedule {
        let cosine = |from, to, updates: Option<u64>, default| CosineSchedule {
            from,
            to,
            updates: updates.unwrap_or(default),
        };
        DvaeSchedule {
            batch: self.batch,
            accumulate: self.run.accumulate,
            beta: cosine(0.0, self.beta, self.beta_updates, steps / 600),
            tau: cosine(1.0, self.tau, self.tau_updates, steps / 20),
            learning_rate: cosine(
                self.step_size,
                self.final_step_size,
                self.step_size_updates,
                steps * 2 / 5,
            ),
            seed: self.run.seed,
        }
    }

    fn optimizer(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-4,
            clip: None,
            ewma: self.ewma,
        }
    }
}

#[derive(clap::Args)]
struct EncodeArgs {
    /// A picture; or several; or a dataset folder.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Model folder.
    #[arg(long)]
    model: PathBuf,
    /// The file to write: a tokens.json for one picture, otherwise a line of JSON for each, which names it.
    #[arg(long, value_parser = values::file)]
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
    #[arg(long, value_parser = values::png)]
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
    let plan = Plan::new(&config);
    args.run.check_memory(&format!("the dVAE of {}", config.name), args.batch, |batch| {
        plan.training_dvae(batch)
    })?;
    let device = args.run.device.open()?.autodiff();
    ModelFolder::check_target(&args.out)?;
    if args.out.join(PRIOR).exists() {
        say(format_args!(
            "dalle: {} holds a prior, which knows only the codebook of the encoder beside it: another encoder will not be written \
             there; name another --out for one",
            args.out.display()
        ));
    }
    let dataset = Dataset::open(&args.data)?;
    let held_out: Vec<RgbImage> =
        args.run.held_out(&dataset)?.into_iter().map(|example| example.image).collect();
    let images: Vec<RgbImage> = dataset.split(Split::Train).map(|example| example.image.clone()).collect();
    let mut hooks = RunHooks::reconstructions(held_out.iter().chain(&images), &config);
    let mut settings = serde_json::to_value(args)?;
    settings["network"] = NetworkKind::Dvae.name().into();
    settings["model"] = serde_json::to_value(&config.dvae)?;
    settings["data"] = dataset.hash().into();
    let files = vec![(CONFIG, serde_json::to_vec_pretty(&config)?)];
    let run = args.run.config(
        format!("dVAE {}", config.name),
        args.steps,
        settings,
        files.clone(),
        args.optimizer(),
    );
    device.seed(args.run.seed);
    let fresh = Dvae::new(&config.dvae, &device);
    let mut stage = DvaeStage::new(
        images,
        &held_out,
        &config,
        args.schedule(args.run.schedule_steps(args.steps)?),
        device,
    )?;
    let (dvae, _) = train(&mut stage, fresh, &run, &mut hooks, &Interrupt::listen()?)?;
    ModelFolder::write(&args.out, &[files, dvae_files(&dvae)?].concat())?;
    writeln!(std::io::stdout(), "wrote encoder and decoder to {}", args.out.display())?;
    Ok(())
}

/// A line of a file of many pictures' tokens.
#[derive(Serialize)]
struct NamedGrid<'a> {
    name: &'a str,
    #[serde(flatten)]
    grid: TokenGrid,
}

fn encode(args: &EncodeArgs) -> Result<()> {
    let inputs: Vec<&Path> = args.pictures.iter().map(PathBuf::as_path).collect();
    outputs::check(&inputs, &[("--out", Some(&args.out))])?;
    let folder = ModelFolder::open(&args.model)?;
    let encoder = folder.encoder(&args.device.open()?)?;
    let tokens = |picture: &RgbImage| TokenGrid::encode(&encoder, picture);
    let read = |path: &PathBuf| read_picture(path, folder.config.image_size);
    let pictures: Vec<(String, RgbImage)> = match args.pictures.as_slice() {
        [path] if path.join(MANIFEST).is_file() => {
            let examples = Dataset::open(path)?.examples;
            examples.into_iter().map(|example| (example.key, example.image)).collect()
        }
        [path] => return Ok(write_file(&args.out, &serde_json::to_vec(&tokens(&read(path)?)?)?)?),
        paths => {
            let named = paths.iter().map(|path| Ok((path.display().to_string(), read(path)?)));
            named.collect::<Result<_>>()?
        }
    };
    let mut lines = Vec::new();
    for (name, picture) in pictures.iter().progress_with(bar(pictures.len() as u64, "tokenizing pictures")) {
        serde_json::to_writer(&mut lines, &NamedGrid { name, grid: tokens(picture)? })?;
        lines.push(b'\n');
    }
    Ok(write_file(&args.out, &lines)?)
}

fn decode(args: &DecodeArgs) -> Result<()> {
    outputs::check(&[&args.tokens], &[("--out", Some(&args.out))])?;
    let folder = ModelFolder::open(&args.model)?;
    let TokenGrid { grid, tokens } = TokenGrid::read(&args.tokens, folder.config.dvae.vocab)?;
    let decoder = folder.decoder(&args.device.open()?)?;
    let picture = decode_picture(&decoder, &tokens, grid)?;
    write_png(&args.out, &picture)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        train: TrainArgs,
    }

    #[test]
    fn the_defaults_of_training_are_the_papers() {
        let line = "dalle --config c --data d --run r --out o".split(' ');
        let train = Cli::try_parse_from(line).unwrap().train;
        let cosine = |from, to, updates| CosineSchedule { from, to, updates };
        let schedule = DvaeSchedule {
            batch: 512,
            accumulate: 1,
            beta: cosine(0.0, 6.6, 5_000),
            tau: cosine(1.0, 1.0 / 16.0, 150_000),
            learning_rate: cosine(1e-4, 1.25e-6, 1_200_000),
            seed: 0,
        };
        assert_eq!((train.schedule(train.steps), train.steps), (schedule, 3_000_000));
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip, ewma } = train.optimizer();
        assert_eq!((beta1, beta2, epsilon, weight_decay, ewma), (0.9, 0.999, 1e-8, 1e-4, 0.999));
        assert_eq!(clip, None);
    }
}
