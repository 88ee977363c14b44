//! `dalle finetune`: a copy of a trained model that learns to draw your own pictures.
//!
//! It runs other commands one after another and prints each: `dalle data build`, `dalle dvae train --decoder-only` if asked, and
//! `dalle prior train --init`. The encoder stays as it is, so that the prior keeps the codebook that it knows.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{FromArgMatches, Parser};
use dalle_data::{Shards, Split, check_apart, log_line};
use dalle_model::config::ModelConfig;
use dalle_native::ModelFolder;
use dalle_native::device::DeviceName;
use dalle_native::publish::write_file;
use dalle_shared::files::{CLIP, CLIP_CONFIG, CONFIG, DECODER, ENCODER, MODEL_CARD, PRIOR, TOKENIZER};
use serde::{Deserialize, Serialize};

use super::run::updates;
use super::{data, dvae, prior, values};

/// What the run was begun with, in its folder.
const RECORD: &str = "finetune.json";
/// Pairs per update.
const BATCH: u64 = 8;
/// How often each picture is seen, unless --steps says otherwise.
const VISITS: u64 = 60;
/// Fewest and most updates by default.
const STEPS: [u64; 2] = [300, 6000];
/// Captions of the pictures that become examples on the page.
const EXAMPLES: usize = 10;

/// Arguments of `dalle finetune`.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder to start from. It is not changed.
    #[arg(long)]
    model: PathBuf,
    /// 50 to 500 pictures with captions: a folder, a WebDataset shard (.tar, .tar.gz) or a parquet file, as for `dalle data build`.
    #[arg(long)]
    images: PathBuf,
    /// SPDX licence of the pictures.
    #[arg(long, default_value = "unspecified")]
    license: String,
    /// Folder for the dataset and the trainings. The same command continues an interrupted one.
    #[arg(long)]
    run: PathBuf,
    /// Model folder to write; its name becomes the model's.
    #[arg(long)]
    out: PathBuf,
    /// Updates of the prior [default: so many that each picture is seen about 60 times, from 300 to 6000].
    #[arg(long, value_parser = updates())]
    steps: Option<u64>,
    /// Highest learning rate of the prior.
    #[arg(long, default_value_t = 1e-3, value_parser = values::positive)]
    learning_rate: f64,
    /// First train the dVAE's decoder on the pictures for this many updates, if they look unlike those that the model was trained on.
    #[arg(long, value_name = "UPDATES", value_parser = updates())]
    decoder_steps: Option<u64>,
    /// A dataset that the model was trained on. Half of the pairs are then taken from it, so that the model does not forget it. As many of
    /// the pictures are held out as of it.
    #[arg(long, value_name = "DATASET")]
    keep: Option<PathBuf>,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// What a run was begun with. The same command continues it; another one is refused.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    /// Hash of the first model.
    model: String,
    images: PathBuf,
    license: String,
    out: PathBuf,
    keep: Option<PathBuf>,
    decoder_steps: Option<u64>,
}

/// Runs `dalle finetune`.
///
/// # Errors
/// The model is incomplete, the pictures cannot be read, --out or --run is of something else, or a training fails.
pub fn run(args: &Args) -> Result<()> {
    let base = ModelFolder::open(&args.model)?;
    base.require(&[TOKENIZER, PRIOR, ENCODER, DECODER])?;
    let mut config = renamed(args, &base)?;
    let keep = args.keep.as_deref().map(Shards::open).transpose()?;
    let read = |option, path: &Path| (option, path.to_owned(), true);
    let images = read("images", &args.images);
    check_apart(("run", &args.run), [images.clone(), read("model", &args.model)].into_iter())?;
    check_apart(
        ("out", &args.out),
        [images, read("model", &args.model), read("run", &args.run)].into_iter(),
    )?;
    begin(args, &base)?;
    let dataset = args.run.join("data");
    build_dataset(args, &config, keep.as_ref(), &dataset)?;
    let shards = Shards::open(&dataset)?;
    config.examples = examples(&shards, &base)?;
    if !args.out.join(CONFIG).exists() {
        config.validate()?;
        let kept = [TOKENIZER, ENCODER, DECODER].map(|name| Ok((name, base.read(name)?)));
        let kept = kept.into_iter().collect::<Result<Vec<_>>>()?;
        let parts = [&[(CONFIG, serde_json::to_vec_pretty(&config)?)], kept.as_slice()].concat();
        ModelFolder::write(&args.out, &parts)?;
    }
    if let Some(steps) = args.decoder_steps {
        let mut command = Words::new("dvae train --decoder-only");
        command.path("--init", &args.model).path("--config", &args.out.join(CONFIG)).path("--out", &args.out);
        command.data(args, &dataset).path("--run", &args.run.join("decoder")).text("--device", &args.device);
        command.text("--steps", &steps).text("--learning-rate-updates", &steps).text("--batch", &BATCH);
        command.text("--learning-rate", &3e-4).text("--final-learning-rate", &3e-5).text("--ewma", &0.99);
        dvae::run(command.parse::<dvae::Args>()?)?;
    }
    let pictures = shards.manifest().train as u64;
    let own = if keep.is_some() { BATCH / 2 } else { BATCH };
    let steps = args.steps.unwrap_or_else(|| (VISITS * pictures).div_ceil(own).clamp(STEPS[0], STEPS[1]));
    let mut command = Words::new("prior train");
    command
        .path("--model", &args.out)
        .path("--init", &args.model)
        .path("--tokenizer", &args.out.join(TOKENIZER));
    command.data(args, &dataset).path("--run", &args.run.join("prior")).text("--device", &args.device);
    command.text("--steps", &steps).text("--batch", &BATCH).text("--learning-rate", &args.learning_rate);
    command
        .text("--warmup", &50)
        .text("--weight-decay", &0.01)
        .text("--ewma", &0.99)
        .text("--bpe-dropout", &0);
    command.text("--image-noise", &0.5).text("--sheet-every", &steps.div_ceil(4));
    prior::run(command.parse::<prior::Args>()?)?;
    finish(args, &base, &config, pictures)?;
    writeln!(
        std::io::stdout(),
        "wrote the model {}; samples during its training are in {}",
        config.name,
        args.run.join("prior").display()
    )?;
    Ok(())
}

/// The first model's configuration under the name of --out.
fn renamed(args: &Args, base: &ModelFolder) -> Result<ModelConfig> {
    let name = args.out.file_name().and_then(|name| name.to_str()).with_context(|| {
        format!(
            "--out {}: expected a folder with a name in UTF-8, which becomes the model's",
            args.out.display()
        )
    })?;
    let license = match base.config.license.as_str() {
        "" => format!("pictures: {}", args.license),
        first => format!("{first}; pictures: {}", args.license),
    };
    let config = ModelConfig { name: name.to_owned(), license, ..base.config.clone() };
    config.validate().with_context(|| format!("--out {} --license {}", args.out.display(), args.license))?;
    Ok(config)
}

/// Checks that --run and --out are new or of this command, and notes what the run is begun with.
fn begin(args: &Args, base: &ModelFolder) -> Result<()> {
    let record = args.run.join(RECORD);
    let now = Begun {
        model: base.hash()?,
        images: absolute(&args.images)?,
        license: args.license.clone(),
        out: absolute(&args.out)?,
        keep: args.keep.as_deref().map(absolute).transpose()?,
        decoder_steps: args.decoder_steps,
    };
    if record.exists() {
        let json = fs::read(&record).with_context(|| record.display().to_string())?;
        let begun: Begun = serde_json::from_slice(&json).with_context(|| {
            format!("{}: expected what `dalle finetune` wrote; choose another --run folder", record.display())
        })?;
        ensure!(
            begun == now,
            "--run {} was begun with other options; expected those of {}, or another --run folder",
            args.run.display(),
            record.display()
        );
        return Ok(());
    }
    ensure!(
        !args.out.exists(),
        "--out {} exists and was not begun by this command with --run {}; expected a new folder",
        args.out.display(),
        args.run.display()
    );
    write_file(&record, &serde_json::to_vec_pretty(&now)?)?;
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// The pictures as a dataset, unless an interrupted command has built it.
fn build_dataset(args: &Args, config: &ModelConfig, keep: Option<&Shards>, dataset: &Path) -> Result<()> {
    if dataset.exists() {
        return Ok(());
    }
    let mut command = Words::new("data build");
    command.path("--images", &args.images).text("--license", &args.license).path("--out", dataset);
    // What is held out of one dataset must not be learned from another.
    let held_out = keep.map_or(0.0, |keep| keep.manifest().options.val_share);
    command.text("--size", &config.image_size).text("--val", &held_out);
    data::run(command.parse::<data::Args>()?)
}

/// Captions for the page: those of some pictures. Says how many captions are longer than what the model reads.
fn examples(shards: &Shards, base: &ModelFolder) -> Result<Vec<String>> {
    let tokenizer = base.tokenizer()?;
    let (mut examples, mut captions, mut long) = (Vec::new(), 0, 0);
    let most = base.config.text_length - 1;
    for entry in shards.entries(Some(Split::Train)) {
        let caption = entry?.record()?.captions.main();
        captions += 1;
        if tokenizer.encode(&caption, most)?.cut > 0 {
            long += 1;
        } else if examples.len() < EXAMPLES && !examples.contains(&caption) {
            examples.push(caption);
        }
    }
    if long > 0 {
        log_line(format_args!(
            "dalle: {long} of {captions} captions are longer than the {most} tokens that the model reads; their ends are not learned"
        ));
    }
    Ok(examples)
}

/// Adds CLIP, if the first model has it, and a model card.
fn finish(args: &Args, base: &ModelFolder, config: &ModelConfig, pictures: u64) -> Result<()> {
    let mut parts = vec![(MODEL_CARD, card(args, base, config, pictures).into_bytes())];
    if base.has_clip()? {
        for part in [CLIP_CONFIG, CLIP] {
            parts.push((part, base.read(part)?));
        }
    }
    Ok(ModelFolder::write(&args.out, &parts)?)
}

fn card(args: &Args, base: &ModelFolder, config: &ModelConfig, pictures: u64) -> String {
    let kept = match &args.keep {
        Some(_) => "Half of the pairs were those that it was trained on before.",
        None => "It was not shown again what it was trained on before, and has forgotten some of it.",
    };
    format!(
        "---\ntags: [dall-e, discrete-vae, autoregressive]\n---\n\n# {}\n\n{}, trained further by `dalle finetune` on {pictures} \
         pictures (licence: {}). {kept}\n\nLicence of the first model: {}\n",
        config.name, base.config.name, args.license, base.config.license
    )
}

/// The words of a command of `dalle`.
struct Words(Vec<OsString>);

impl Words {
    fn new(command: &str) -> Self {
        Self(command.split(' ').map(OsString::from).collect())
    }

    fn path(&mut self, option: &str, path: &Path) -> &mut Self {
        self.0.extend([option.into(), path.into()]);
        self
    }

    /// The datasets: the pictures, and what is not to be forgotten, of which as many pairs are taken, whatever their sizes.
    fn data(&mut self, args: &Args, dataset: &Path) -> &mut Self {
        let weighted = |folder: &Path| {
            let mut word = folder.as_os_str().to_owned();
            word.push("=1");
            word
        };
        match &args.keep {
            None => self.path("--data", dataset),
            Some(keep) => {
                self.0.extend(["--data".into(), weighted(dataset), "--data".into(), weighted(keep)]);
                self
            }
        }
    }

    fn text(&mut self, option: &str, value: &dyn Display) -> &mut Self {
        self.0.extend([option.into(), value.to_string().into()]);
        self
    }

    /// Prints the command, and reads its arguments.
    fn parse<A: clap::Args + FromArgMatches>(&self) -> Result<A> {
        log_line(format_args!("\ndalle {}", self.shown()));
        // The first word names the command that `A` are the arguments of.
        Ok(Command::<A>::try_parse_from(&self.0)?.args)
    }

    /// The command as one types it.
    fn shown(&self) -> String {
        let quoted = |word: &OsString| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_alphanumeric() || "-_./=,:+".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        };
        self.0.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Parser)]
struct Command<A: clap::Args + FromArgMatches> {
    #[command(flatten)]
    args: A,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_types_it() {
        let mut words = Words::new("data build");
        words.path("--images", Path::new("my pictures")).text("--license", &"it's mine").text("--size", &128);
        assert_eq!(words.shown(), r"data build --images 'my pictures' --license 'it'\''s mine' --size 128");
    }
}
