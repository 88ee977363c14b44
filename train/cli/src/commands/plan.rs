//! `dalle plan`: parameters, FLOPs and memory of a model, and whether it fits a device.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_kernels::clip::ClipUpdate;
use dalle_kernels::prior::PriorUpdate;
use dalle_model::clip::{self, ClipConfig};
use dalle_model::config::ModelConfig;
use dalle_model::footprint::{Footprint, Training};
use dalle_model::precision::Precision;
use dalle_model::prior::kernel_sizes;
use dalle_native::device::DeviceName;
use dalle_native::memory::{self, gigabytes};
use dalle_native::{read_clip_config, read_config};
use dalle_train::optimizer::COPIES;

use super::plan_cluster::ClusterArgs;
use super::values;

/// Arguments of `dalle plan`.
#[derive(clap::Args)]
pub struct Args {
    /// Model configuration (.json), such as `configs/paper-12b.json` or a model folder's config.json.
    #[arg(long)]
    config: PathBuf,
    /// CLIP configuration for the model, to include CLIP's training.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Number of captions sampled at once.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    captions: usize,
    /// Samples per caption.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    samples: usize,
    /// Batch size in training.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    batch: usize,
    /// Device to check: cpu, cuda:N, wgpu or libtorch. Only its free memory is read.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs `dalle plan`.
pub fn run(args: &Args) -> Result<()> {
    let config = read_config(&args.config)?;
    let clip = args.clip.as_deref().map(|path| read_clip_config(path, &config)).transpose()?;
    let footprint = Footprint::new(&config);
    let free = memory::free(args.device);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", config.name)?;
    print_size(&mut out, &footprint)?;
    print_sampling(&mut out, (&config, &footprint), args, free)?;
    let clip = clip.map(|clip: ClipConfig| {
        let updates = args.device.computed(ClipUpdate::supports(&clip::kernel_sizes(&clip, &config)));
        footprint.training_clip(&clip, &config, updates, args.batch as u64, COPIES, false)
    });
    let supported = PriorUpdate::supports(&kernel_sizes(&config));
    let (batch, dvae) = (args.batch as u64, args.device.computed(true));
    let networks = [
        ("dVAE", Some(footprint.training_dvae(&config, dvae, batch, COPIES))),
        ("prior", Some(footprint.training_prior(&config, args.device.computed(supported), batch, COPIES))),
        ("CLIP", clip),
    ];
    print_training(&mut out, networks, batch, free)?;
    args.cluster.print(&mut out, &config, &footprint)?;
    match free {
        Some(free) => writeln!(out, "{} has {} free", args.device, gigabytes(free))?,
        None => writeln!(
            out,
            "the free memory of {} is unknown, so this cannot say what fits: {}",
            args.device,
            match args.device {
                DeviceName::Cuda(_) => "NVIDIA's driver has no such device",
                _ => "this kind of device does not report it",
            }
        )?,
    }
    Ok(())
}

/// Parameters and FLOPs.
fn print_size(out: &mut dyn Write, footprint: &Footprint) -> Result<()> {
    let millions = |parameters: u64| format!("{:.1} M", parameters as f64 / 1e6);
    writeln!(
        out,
        "  parameters   prior {} ({} in the matrices of its blocks), encoder {}, decoder {}",
        millions(footprint.prior),
        millions(footprint.matrices),
        millions(footprint.encoder),
        millions(footprint.decoder)
    )?;
    writeln!(
        out,
        "  arithmetic   {} per sampled token, {} per decoded image",
        flops(2 * footprint.prior),
        flops(footprint.decode_flops)
    )?;
    Ok(())
}

/// Memory of sampling in 32 and in 16 bits.
fn print_sampling(
    out: &mut dyn Write,
    (config, footprint): (&ModelConfig, &Footprint),
    args: &Args,
    free: Option<u64>,
) -> Result<()> {
    let (captions, samples) = (args.captions as u64, (args.captions * args.samples) as u64);
    let computed = args.device.computed(true);
    let total = |precision| footprint.sampling(config, computed, precision, captions, samples);
    let rest = |precision| {
        let caches = footprint.cache_bytes(precision, captions, samples);
        total(precision).saturating_sub(footprint.prior_bytes(precision) + caches)
    };
    let mut row = |name: &str, cell: &dyn Fn(Precision) -> String| {
        let [wide, narrow] = [Precision::F32, Precision::Bf16].map(cell);
        writeln!(out, "  {name:40} {wide:>12} {narrow:>12}")
    };
    row("", &|precision| if precision == Precision::F32 { "f32".to_owned() } else { "16 bits".to_owned() })?;
    row("weights of the prior", &|precision| gigabytes(footprint.prior_bytes(precision)))?;
    row("decoder and workspace", &|precision| gigabytes(rest(precision)))?;
    row("cache per caption", &|precision| gigabytes(footprint.cache_bytes(precision, 1, 0)))?;
    row("cache per sample", &|precision| gigabytes(footprint.cache_bytes(precision, 0, 1)))?;
    row("read per token", &|precision| gigabytes(footprint.step_bytes(precision, 1, 1)))?;
    let name = format!("sampling {captions} × {} (captions × samples)", args.samples);
    row(&name, &|precision| gigabytes(total(precision)))?;
    row(&format!("  on {}", args.device), &|precision| fits(total(precision), free).to_owned())?;
    Ok(())
}

/// Memory of training.
fn print_training(
    out: &mut dyn Write,
    networks: [(&str, Option<Training>); 3],
    batch: u64,
    free: Option<u64>,
) -> Result<()> {
    let head = format!("training with --batch {batch}");
    writeln!(out, "  {head:40} {:>12} {:>12} {:>12}", "state", "activations", "total")?;
    for (name, training) in networks {
        let Some(training) = training else { continue };
        let total = training.bytes();
        let [state, activations, sum] = [training.state, training.activations, total].map(gigabytes);
        writeln!(out, "    {name:38} {state:>12} {activations:>12} {sum:>12} {}", fits(total, free))?;
    }
    Ok(())
}

fn fits(bytes: u64, free: Option<u64>) -> &'static str {
    match free {
        Some(free) if bytes <= free => "fits",
        Some(_) => "does not fit",
        None => "unknown",
    }
}

/// Formats a number of floating-point operations.
fn flops(count: u64) -> String {
    match count {
        0..1_000_000_000 => format!("{:.1} MFLOP", count as f64 / 1e6),
        _ => format!("{:.1} GFLOP", count as f64 / 1e9),
    }
}
