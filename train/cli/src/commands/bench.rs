//! `dalle bench sample|decode|train-step`: a table, and the same as JSON.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, builder::RangedU64ValueParser};
use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;
use dalle_native::memory::gigabytes;
use serde::Serialize;

use dalle_native::publish::write_file;
use dalle_native::read_config;

use super::{outputs, values};
use crate::bench::{Measured, Setting, copy_bandwidth};

/// Arguments of `dalle bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Draw image tokens.
    Sample(SampleOptions),
    /// Turn tokens into pixels.
    Decode(Options),
    /// Update the prior.
    TrainStep(Options),
}

#[derive(clap::Args)]
struct SampleOptions {
    #[command(flatten)]
    options: Options,
    /// Samples of each caption.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    samples: usize,
    /// f32, bf16 or f16: the type of the prior's matrices.
    #[arg(long, default_value = "f32")]
    dtype: Precision,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Results {
    rows: Vec<Measured>,
    /// Bytes that a copy on the same device reads and writes, 10⁹ a second.
    copy_gigabytes_per_second: f64,
}

#[derive(clap::Args)]
struct Options {
    /// Configuration (.json); its weights are random.
    #[arg(long)]
    config: PathBuf,
    /// Captions, pictures or pairs at once; several, such as 1,8,32, make a row each, the smallest first.
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = values::batch())]
    batch: Vec<usize>,
    /// Steps (behind the first eighth of a picture), decodes or updates that are timed; the median counts.
    #[arg(long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    repeats: usize,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle bench`.
///
/// # Errors
/// Whatever stops it, in a sentence for the person at the terminal.
pub fn run(args: Args) -> Result<()> {
    let (mut options, samples, precision, measure): (_, _, _, fn(&Setting) -> Result<Measured>) =
        match args.benchmark {
            Benchmark::Sample(SampleOptions { options, samples, dtype }) => {
                (options, samples, dtype, |setting| setting.sample())
            }
            Benchmark::Decode(options) => (options, 1, Precision::F32, |setting| setting.decode()),
            Benchmark::TrainStep(options) => (options, 1, Precision::F32, |setting| setting.train_step()),
        };
    // The memory that a row leaves to the process is no more than the next one takes.
    options.batch.sort_unstable();
    options.batch.dedup();
    let config = read_config(&options.config)?;
    outputs::check(&[&options.config], &[("--json", options.json.as_deref())])?;
    options.device.open_for(precision)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:>6} {:>8} {:>12} {:>12} {:>8} {:>8} {:>10}",
        "batch", "samples", "ms", "tokens/s", "TFLOP/s", "GB/s", "memory"
    )?;
    let mut rows = Vec::new();
    for &batch in &options.batch {
        let setting = Setting {
            config: &config,
            device: options.device,
            precision,
            batch,
            samples,
            repeats: options.repeats,
        };
        let row = measure(&setting)?;
        writeln!(
            out,
            "{:>6} {:>8} {:>12.3} {:>12.1} {:>8.3} {:>8} {:>10}",
            row.batch,
            row.samples,
            1e3 * row.seconds,
            row.tokens_per_second,
            row.teraflops,
            row.gigabytes_per_second.map_or_else(String::new, |rate| format!("{rate:.1}")),
            row.memory.map_or_else(String::new, gigabytes),
        )?;
        rows.push(row);
    }
    // Last: it needs memory of its own.
    let copy_gigabytes_per_second = copy_bandwidth(options.device)? / 1e9;
    writeln!(out, "a copy reads and writes {copy_gigabytes_per_second:.1} GB/s")?;
    if let Some(path) = &options.json {
        write_file(path, &serde_json::to_vec_pretty(&Results { rows, copy_gigabytes_per_second })?)?;
    }
    Ok(())
}
