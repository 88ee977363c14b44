//! `dalle plan`: what a model costs, and what of it fits on a device.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use dalle_model::plan::{Plan, Training};
use dalle_model::precision::Precision;
use dalle_native::device::DeviceName;
use dalle_native::memory::{self, gigabytes};

use dalle_native::{read_clip_config, read_config};

use super::values;

/// Arguments of `dalle plan`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration (.json), such as `configs/paper-12b.json`, or a model folder's.
    #[arg(long)]
    config: PathBuf,
    /// Configuration of a contrastive model for it, to plan its training too.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Captions sampled at once.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    captions: usize,
    /// Samples of each caption.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    samples: usize,
    /// Pictures or pairs per update when training.
    #[arg(long, default_value_t = 1, value_parser = values::batch())]
    batch: usize,
    /// cpu, cuda:N, wgpu or libtorch: what fits there. It is asked, not used.
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

/// Runs `dalle plan`.
///
/// # Errors
/// A configuration cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let config = read_config(&args.config)?;
    let plan = Plan::new(&config);
    let free = memory::free(args.device);
    let mut out = std::io::stdout().lock();
    let millions = |parameters: u64| format!("{:.1} M", parameters as f64 / 1e6);
    writeln!(out, "{}", config.name)?;
    writeln!(
        out,
        "  parameters   prior {}, of these {} in the matrices of its blocks; encoder {}, decoder {}",
        millions(plan.prior),
        millions(plan.matrices),
        millions(plan.encoder),
        millions(plan.decoder)
    )?;
    writeln!(
        out,
        "  arithmetic   {} a sampled token, {} a decoded picture",
        flops(2 * plan.prior),
        flops(plan.decode_flops)
    )?;
    let (captions, samples) = (args.captions as u64, (args.captions * args.samples) as u64);
    let fits = |bytes: u64| match free {
        Some(free) if bytes <= free => "fits",
        Some(_) => "does not fit",
        None => "not known",
    };
    writeln!(out, "  {:40} {:>12} {:>12}", "", "f32", "16 bits")?;
    let row = |out: &mut dyn Write, name: &str, bytes: &dyn Fn(Precision) -> u64| {
        let [wide, narrow] = [Precision::F32, Precision::Bf16].map(|precision| gigabytes(bytes(precision)));
        writeln!(out, "  {name:40} {wide:>12} {narrow:>12}")
    };
    row(&mut out, "weights of the prior", &|precision| plan.prior_bytes(precision))?;
    row(&mut out, "masks, and what it works with", &|_| plan.working_bytes())?;
    row(&mut out, "cache of a caption", &|precision| plan.cache_bytes(precision, 1, 0))?;
    row(&mut out, "cache of a sample", &|precision| plan.cache_bytes(precision, 0, 1))?;
    row(&mut out, "read for a token", &|precision| plan.step_bytes(precision, 1, 1))?;
    let all = format!("sampling, captions × pictures: {captions} × {}", args.samples);
    row(&mut out, &all, &|precision| plan.sampling(precision, captions, samples))?;
    let [wide, narrow] =
        [Precision::F32, Precision::Bf16].map(|precision| fits(plan.sampling(precision, captions, samples)));
    writeln!(out, "  {:40} {wide:>12} {narrow:>12}", format!("  on {}", args.device))?;
    let batch = args.batch as u64;
    let head = format!("training with --batch {batch}");
    writeln!(out, "  {head:40} {:>12} {:>12} {:>12}", "state", "activations", "together")?;
    let row = |out: &mut dyn Write, name: &str, training: Training| {
        let all = training.bytes();
        let [state, activations, sum] = [training.state, training.activations, all].map(gigabytes);
        writeln!(out, "  {name:40} {state:>12} {activations:>12} {sum:>12} {}", fits(all))
    };
    row(&mut out, "  the dVAE", plan.training_dvae(batch))?;
    row(&mut out, "  the prior", plan.training_prior(batch))?;
    if let Some(path) = &args.clip {
        let clip = read_clip_config(path, &config)?;
        row(&mut out, "  the contrastive model", plan.training_clip(&clip, &config, batch, false))?;
    }
    match free {
        Some(free) => writeln!(out, "{} has {} free", args.device, gigabytes(free))?,
        None => writeln!(
            out,
            "how much memory {} has free is not known, so what fits is not either: {}",
            args.device,
            match args.device {
                DeviceName::Cuda(_) => "NVIDIA's driver knows no such device here",
                _ => "this kind of device does not tell",
            }
        )?,
    }
    Ok(())
}

/// Floating-point operations as a person reads them.
fn flops(count: u64) -> String {
    match count {
        0..1_000_000_000 => format!("{:.1} MFLOP", count as f64 / 1e6),
        _ => format!("{:.1} GFLOP", count as f64 / 1e9),
    }
}
