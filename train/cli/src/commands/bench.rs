//! `dalle bench sample|decode|train-step|dvae-step`: prints timings as a table and writes them as JSON.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, builder::RangedU64ValueParser};
use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;
use dalle_native::memory::gigabytes;
use dalle_native::publish::write_file;
use dalle_native::read_config;
use serde::Serialize;

use super::{outputs, values};
use crate::bench::{Benchmark, Timing, copy_bandwidth, read_bandwidth};
use crate::bench_ranks::{RankBenchmark, RankTiming};

/// Arguments of `dalle bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time sampling steps.
    Sample(SampleArgs),
    /// Time decoding tokens into images.
    Decode(BenchArgs),
    /// Time updates of the prior, by one or several ranks.
    TrainStep(TrainStepArgs),
    /// Time updates of the dVAE.
    DvaeStep(BenchArgs),
}

#[derive(clap::Args)]
struct SampleArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Samples per caption.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    samples: usize,
    /// Data type of the prior's matrices: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    dtype: Precision,
}

#[derive(clap::Args)]
struct TrainStepArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Ranks that share each batch, as threads of this process. With several, the share of the time in which they wait for each other
    /// and the bytes that they send are printed too.
    #[arg(long, default_value_t = 1, value_parser = values::count())]
    ranks: usize,
    /// Ranks that count as one machine [default: all].
    #[arg(long, value_name = "RANKS", value_parser = values::count(), requires = "ranks")]
    machine_ranks: Option<usize>,
    /// Compress gradients between machines by PowerSGD to this many columns.
    #[arg(long, value_name = "COLUMNS", value_parser = values::count(), requires = "machine_ranks")]
    powersgd_rank: Option<usize>,
}

#[derive(clap::Args)]
struct BenchArgs {
    /// Model configuration (.json). The weights are random.
    #[arg(long)]
    config: PathBuf,
    /// Captions, images or pairs at once. A list such as 1,8,32 gives one row each, in ascending order.
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = values::batch())]
    batch: Vec<usize>,
    /// Number of steps (after the first eighth of an image), decodes or updates to time; the median is reported.
    #[arg(long, default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    repeats: usize,
    /// Result to write (.json).
    #[arg(long, value_parser = values::file)]
    json: Option<PathBuf>,
    /// cpu, cuda:N, wgpu or libtorch.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// The JSON file.
#[derive(Serialize)]
struct Results {
    rows: Vec<Timing>,
    /// GB/s that a copy on the same device reads and writes.
    copy_gigabytes_per_second: f64,
    /// GB/s that the CPU reads; `None` for other devices.
    read_gigabytes_per_second: Option<f64>,
}

/// Runs `dalle bench`.
pub fn run(args: Args) -> Result<()> {
    let (mut args, samples, precision, time): (_, _, _, fn(&Benchmark) -> Result<Timing>) = match args.command
    {
        Command::Sample(SampleArgs { bench, samples, dtype }) => {
            (bench, samples, dtype, |benchmark| benchmark.sample())
        }
        Command::Decode(bench) => (bench, 1, Precision::F32, |benchmark| benchmark.decode()),
        Command::TrainStep(args) if args.ranks > 1 => return time_ranks(args),
        Command::TrainStep(args) => (args.bench, 1, Precision::F32, |benchmark| benchmark.train_step()),
        Command::DvaeStep(bench) => (bench, 1, Precision::F32, |benchmark| benchmark.dvae_step()),
    };
    // Ascending, because memory that one row leaves allocated is reused by the next.
    args.batch.sort_unstable();
    args.batch.dedup();
    let config = read_config(&args.config)?;
    outputs::check(&[&args.config], &[("--json", args.json.as_deref())])?;
    args.device.open_for(precision)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:>6} {:>8} {:>12} {:>12} {:>8} {:>8} {:>10}",
        "batch", "samples", "ms", "tokens/s", "TFLOP/s", "GB/s", "memory"
    )?;
    let mut rows = Vec::new();
    for &batch in &args.batch {
        let benchmark = Benchmark {
            config: &config,
            device: args.device,
            precision,
            batch,
            samples,
            repeats: args.repeats,
        };
        let row = time(&benchmark)?;
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
    // After the rows, because it allocates memory of its own.
    let copy_gigabytes_per_second = copy_bandwidth(args.device)? / 1e9;
    writeln!(out, "a copy reads and writes {copy_gigabytes_per_second:.1} GB/s")?;
    let read_gigabytes_per_second = read_bandwidth(args.device).map(|rate| rate / 1e9);
    if let Some(rate) = read_gigabytes_per_second {
        writeln!(out, "the CPU reads {rate:.1} GB/s")?;
    }
    if let Some(path) = &args.json {
        let results = Results { rows, copy_gigabytes_per_second, read_gigabytes_per_second };
        write_file(path, &serde_json::to_vec_pretty(&results)?)?;
    }
    Ok(())
}

/// The JSON file of several ranks.
#[derive(Serialize)]
struct RankResults {
    rows: Vec<RankTiming>,
}

/// Times updates by several ranks.
fn time_ranks(args: TrainStepArgs) -> Result<()> {
    let TrainStepArgs { mut bench, ranks, machine_ranks, powersgd_rank } = args;
    bench.batch.sort_unstable();
    bench.batch.dedup();
    let config = read_config(&bench.config)?;
    outputs::check(&[&bench.config], &[("--json", bench.json.as_deref())])?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:>6} {:>6} {:>12} {:>12} {:>8} {:>14} {:>14} {:>10} {:>10}",
        "ranks", "batch", "ms", "tokens/s", "waiting", "in machine", "between them", "to all", "memory"
    )?;
    let mut rows = Vec::new();
    for &batch in &bench.batch {
        let benchmark = RankBenchmark {
            config: &config,
            device: bench.device,
            batch,
            repeats: bench.repeats,
            ranks,
            per_machine: machine_ranks.unwrap_or(ranks),
            columns: powersgd_rank,
        };
        let row = benchmark.time()?;
        writeln!(
            out,
            "{:>6} {:>6} {:>12.3} {:>12.1} {:>6.1} % {:>11.3} MB {:>11.3} MB {:>7.1} KB {:>10}",
            row.ranks,
            row.batch,
            1e3 * row.seconds,
            row.tokens_per_second,
            1e2 * row.waiting,
            row.bytes_in_machine as f64 / 1e6,
            row.bytes_between_machines as f64 / 1e6,
            row.bytes_to_all as f64 / 1e3,
            row.memory.map_or_else(String::new, gigabytes),
        )?;
        rows.push(row);
    }
    if let Some(path) = &bench.json {
        write_file(path, &serde_json::to_vec_pretty(&RankResults { rows })?)?;
    }
    Ok(())
}
