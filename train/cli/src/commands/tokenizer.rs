//! `dalle tokenizer`: trains the caption tokenizer.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use clap::builder::RangedU64ValueParser;

use dalle_data::{Captions, DataError, Shards, Split};
use dalle_native::publish::write_file;
use dalle_prepare::tokenizer_train;
use dalle_shared::Tokenizer;

use super::outputs;

/// Arguments of `dalle tokenizer`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a byte-level BPE tokenizer on the captions of a dataset's training split.
    Train(TokenizerTrainArgs),
}

#[derive(clap::Args)]
struct TokenizerTrainArgs {
    /// Dataset folder.
    #[arg(long)]
    data: PathBuf,
    /// Maximum size of the vocabulary, at least 256 (all bytes). The default is the paper's.
    #[arg(long, default_value_t = 16_384, value_parser = RangedU64ValueParser::<usize>::new().range(tokenizer_train::BYTES as u64..=1 << 24))]
    vocab: usize,
    /// File to write: tokenizer.json.
    #[arg(long)]
    out: PathBuf,
}

/// Runs `dalle tokenizer`.
///
/// # Errors
/// See [`Shards`] and [`tokenizer_train::train`].
pub fn run(args: Args) -> anyhow::Result<()> {
    let Command::Train(args) = args.command;
    outputs::check(&[], &[("--out", Some(&args.out))])?;
    let shards = Shards::open(&args.data)?;
    let captions = |split| shards.entries(split).map(|entry| Ok(entry?.record()?.captions));
    let tokenizer = tokenizer_train::train(captions(Some(Split::Train)), args.vocab)?;
    write_file(&args.out, tokenizer.to_json()?.as_bytes())?;
    let made = tokenizer.vocab_size();
    let mut out = std::io::stdout().lock();
    writeln!(out, "wrote {made} ids ({} merges) to {}", made - tokenizer_train::BYTES, args.out.display())?;
    if made < args.vocab {
        writeln!(out, "fewer than --vocab {}, because no other pair repeats in the captions", args.vocab)?;
    }
    let lengths = lengths(captions(None), &tokenizer).context("encoding the dataset's captions")?;
    writeln!(
        out,
        "an image's main caption, its label, has {:.1} ids on average, at most {}",
        lengths.mean, lengths.longest
    )?;
    Ok(())
}

struct Lengths {
    mean: f64,
    longest: usize,
}

fn lengths(
    captions: impl Iterator<Item = Result<Captions, DataError>>,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Lengths> {
    let (mut total, mut count, mut longest) = (0, 0_usize, 0);
    for captions in captions {
        let length = tokenizer.encode(&captions?.main(), usize::MAX)?.ids.len();
        total += length;
        count += 1;
        longest = longest.max(length);
    }
    Ok(Lengths { mean: total as f64 / count.max(1) as f64, longest })
}
