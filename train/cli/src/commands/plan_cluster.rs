//! `dalle plan --cluster`: memory, traffic and time of training the prior on a cluster.

use std::io::Write;
use std::str::FromStr;

use anyhow::{Result, ensure};
use dalle_model::Device;
use dalle_model::config::ModelConfig;
use dalle_model::footprint::Footprint;
use dalle_model::prior::Prior;
use dalle_native::memory::gigabytes;
use dalle_train::power_sgd::PAPER_SHARE;
use dalle_train::prior_schedule::PriorSchedule;
use dalle_train::shards::UpdateTraffic;

use super::values;

/// The paper's own figures for its largest model (appendix E).
const PAPER_WIDTH: usize = 3968;
const PAPER_COMPRESSION: f64 = 0.86;

/// Machines and GPUs of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machines {
    machines: usize,
    gpus: usize,
}

impl FromStr for Machines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| text.parse::<usize>().ok().filter(|count| (1..=100_000).contains(count));
        let parts = text.split_once('x').map(|(machines, gpus)| (count(machines), count(gpus)));
        match parts {
            Some((Some(machines), Some(gpus))) => Ok(Self { machines, gpus }),
            _ => Err("expected machines and GPUs of each, such as `128x8`".to_owned()),
        }
    }
}

/// Options that describe a cluster. The defaults of a GPU are those of the paper's, V100 of 16 GB; the paper does not give bandwidths.
#[derive(clap::Args)]
pub struct ClusterArgs {
    /// Also plan training the prior on this many machines and GPUs of each; the paper's cluster is 128x8.
    #[arg(long, value_name = "MACHINESxGPUS")]
    cluster: Option<Machines>,
    /// Memory of a GPU in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 16.0, value_parser = values::positive, requires = "cluster")]
    gpu_memory: f64,
    /// TFLOP/s that a GPU reaches in 16 bits.
    #[arg(long, value_name = "TFLOPS", default_value_t = 60.0, value_parser = values::positive, requires = "cluster")]
    gpu_tflops: f64,
    /// GB/s that a GPU sends to others of its machine.
    #[arg(long, value_name = "GB/S", default_value_t = 100.0, value_parser = values::positive, requires = "cluster")]
    gpu_bandwidth: f64,
    /// GB/s that a machine sends to others.
    #[arg(long, value_name = "GB/S", default_value_t = 12.5, value_parser = values::positive, requires = "cluster")]
    machine_bandwidth: f64,
    /// Examples of an update, over all GPUs.
    #[arg(long, value_name = "EXAMPLES", default_value_t = PriorSchedule::PAPER.batch, value_parser = values::batch(), requires = "cluster")]
    cluster_batch: usize,
}

impl ClusterArgs {
    /// Prints the plan, if there is a cluster.
    ///
    /// # Errors
    /// The GPUs cannot have equal shares of the batch, or the plan cannot be written.
    pub fn print(&self, out: &mut dyn Write, config: &ModelConfig, footprint: &Footprint) -> Result<()> {
        let Some(Machines { machines, gpus }) = self.cluster else { return Ok(()) };
        ensure!(
            self.cluster_batch.is_multiple_of(machines * gpus),
            "--cluster-batch: expected a multiple of the number of GPUs, {}, got {}",
            machines * gpus,
            self.cluster_batch
        );
        let width = config.prior.d_model();
        let columns = (width.div_ceil(gpus) as f64 * PAPER_SHARE).round().max(1.0) as usize;
        let prior = Prior::new(config, &Device::flex());
        let of = |columns| UpdateTraffic::of(&prior, machines, gpus, columns);
        let (plain, compressed) = (of(None), of(Some(columns)));
        writeln!(
            out,
            "  training the prior on {machines} machines of {gpus} GPUs, {} examples an update",
            self.cluster_batch
        )?;
        let mut row = |name: &str, cells: [String; 2]| {
            let [first, second] = cells;
            writeln!(out, "    {name:44} {first:>14} {second:>14}")
        };

        row("memory of a GPU", ["this trainer".to_owned(), "paper's way".to_owned()])?;
        let examples = (self.cluster_batch / (machines * gpus)) as u64;
        let memory = [
            self.memory_here(footprint, gpus as u64, examples),
            Self::memory_of_paper(config, footprint, gpus as u64, examples),
        ];
        row("  state, gradients and activations", memory.map(gigabytes))?;
        let fits = |bytes: u64| {
            if bytes as f64 <= self.gpu_memory * (1u64 << 30) as f64 { "fits" } else { "does not fit" }
        };
        row(&format!("  in {} GiB", self.gpu_memory), memory.map(|bytes| fits(bytes).to_owned()))?;

        row("sent by a GPU in an update", ["plain".to_owned(), format!("PowerSGD {columns}")])?;
        let bytes = |bytes: usize| gigabytes(bytes as u64);
        row("  to GPUs of its machine", [plain, compressed].map(|traffic| bytes(traffic.in_machine)))?;
        row("  to other machines", [plain, compressed].map(|traffic| bytes(traffic.between_machines)))?;
        let [factors, whole] = compressed.compressed;
        if machines > 1 {
            let saved = 1.0 - factors as f64 / whole as f64;
            let note = if width == PAPER_WIDTH && gpus == 8 {
                format!(" (paper: {:.0} %)", 1e2 * PAPER_COMPRESSION)
            } else {
                String::new()
            };
            row(
                &format!("  compression of matrices{note}"),
                [String::new(), format!("{:.1} %", 1e2 * saved)],
            )?;
        }

        row("time of an update, without overlap", ["plain".to_owned(), format!("PowerSGD {columns}")])?;
        // Forward, backward, and forward again.
        let flops = 8.0 * footprint.prior as f64 * (examples * footprint.slots) as f64;
        let compute = flops / (self.gpu_tflops * 1e12);
        let seconds = [plain, compressed].map(|traffic| {
            let inside = traffic.in_machine as f64 / (self.gpu_bandwidth * 1e9);
            // All GPUs of a machine send at once.
            let between = (traffic.between_machines * gpus) as f64 / (self.machine_bandwidth * 1e9);
            [compute, inside, between]
        });
        for (part, name) in ["  arithmetic", "  in the machine", "  between machines"].iter().enumerate() {
            row(name, seconds.map(|seconds| format!("{:.2} s", seconds[part])))?;
        }
        let total = seconds.map(|parts| parts.iter().sum::<f64>());
        row("  together", total.map(|seconds| format!("{seconds:.2} s")))?;
        let tokens = (self.cluster_batch as u64 * footprint.slots) as f64;
        row("tokens per second", total.map(|seconds| format!("{:.0}", tokens / seconds)))?;
        let steps = PriorSchedule::PAPER_STEPS;
        row(
            &format!("{steps} updates"),
            total.map(|seconds| format!("{:.0} days", seconds * steps as f64 / 86400.0)),
        )?;
        Ok(())
    }

    /// Bytes with all weights and gradients in f32, and the rest of the optimizer's state split over the machine.
    fn memory_here(&self, footprint: &Footprint, gpus: u64, examples: u64) -> u64 {
        // Weights and gradients; mean, variance, average, and what is sent and received of the own rows.
        let state = 4 * (2 * footprint.prior + 5 * footprint.prior.div_ceil(gpus));
        state + 4 * footprint.prior_activations * examples
    }

    /// Bytes with matrices in 16 bits, gathered one resblock at a time, and gradients that are the error buffers.
    fn memory_of_paper(config: &ModelConfig, footprint: &Footprint, gpus: u64, examples: u64) -> u64 {
        let (width, resblocks) = (config.prior.d_model() as u64, 2 * config.prior.layers as u64);
        // Weights, mean, variance and error buffers of 16 bits; weights, gradients and moments of the rest in f32.
        let state = 2 * 4 * footprint.matrices.div_ceil(gpus)
            + 4 * 4 * (footprint.prior - footprint.matrices).div_ceil(gpus);
        // This MLP and the next one, and the gradients of one.
        let gathered = 3 * 2 * 8 * width * width;
        // The identity path at each resblock, and what one resblock keeps.
        let kept = resblocks * footprint.slots * width * 4 + 2 * footprint.prior_activations / resblocks;
        state + gathered + kept * examples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cluster: &str, batch: usize) -> Result<String> {
        let config: ModelConfig =
            serde_json::from_str(include_str!("../../../../configs/paper-12b.json")).unwrap();
        let args = ClusterArgs {
            cluster: Some(cluster.parse().unwrap()),
            gpu_memory: 16.0,
            gpu_tflops: 60.0,
            gpu_bandwidth: 100.0,
            machine_bandwidth: 12.5,
            cluster_batch: batch,
        };
        let mut out = Vec::new();
        args.print(&mut out, &config, &Footprint::new(&config))?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn the_papers_model_fits_its_cluster_in_the_papers_way() {
        let plan = plan("128x8", 1024).unwrap();
        let fits = plan.lines().find(|line| line.contains("in 16 GiB")).unwrap();
        assert!(fits.trim_end().ends_with(" fits"), "{plan}");
        assert!(plan.contains("PowerSGD 112"), "{plan}");
        // Appendix E: about 86 %. Rows, and not the longer side, are split here, so P and Q are larger.
        let compression = plan.lines().find(|line| line.contains("compression")).unwrap();
        let percent: f64 = compression.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
        assert!((75.0..90.0).contains(&percent), "{plan}");
    }

    #[test]
    fn a_batch_that_the_gpus_cannot_share_is_refused_as_in_training() {
        assert!(plan("4x3", 36).is_ok());
        for batch in [8, 1024] {
            let error = plan("4x3", batch).unwrap_err().to_string();
            assert!(error.contains("a multiple of the number of GPUs, 12"), "{error}");
        }
    }

    #[test]
    fn a_cluster_is_two_numbers() {
        assert_eq!("4x8".parse(), Ok(Machines { machines: 4, gpus: 8 }));
        for wrong in ["4", "x8", "0x8", "4x", "4x8x2", "-1x8"] {
            assert!(wrong.parse::<Machines>().is_err(), "{wrong}");
        }
    }
}
