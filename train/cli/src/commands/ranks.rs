//! Training by several ranks, which `mpirun` or `srun` starts.

use anyhow::{Result, bail, ensure};
#[cfg(feature = "mpi")]
use dalle_comm::Communicator;
use dalle_native::device::DeviceName;
use dalle_train::ranks::Ranks;
use dalle_train::training::Interrupted;
use serde::Serialize;

use super::values;

/// Variables of the environment with the number of ranks, as Open MPI, PMI and Slurm with PMIx set them.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// Options of training by several ranks. None is part of a run's identity: a run continues with any number of ranks.
#[derive(clap::Args, Serialize)]
pub struct RankArgs {
    /// Seconds that a rank waits for the others before the job ends with a message. It must cover what the first rank does alone:
    /// validation, contact sheets, encoding a dataset of images.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    rank_timeout: u64,
    /// Ranks that count as one machine: those with neighbouring numbers [default: those that share memory].
    #[arg(long, value_name = "RANKS", value_parser = values::count())]
    #[serde(skip)]
    machine_ranks: Option<usize>,
    /// Send what is long by NCCL instead of MPI. Needs `--device cuda:N`, a device for each rank, and a build with the feature `nccl`.
    #[arg(long)]
    #[serde(skip)]
    nccl: bool,
}

/// An error that the first rank shows for all.
#[derive(Debug)]
pub struct ShownByFirst;

impl std::fmt::Display for ShownByFirst {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the first rank says why")
    }
}

impl std::error::Error for ShownByFirst {}

impl RankArgs {
    /// Runs `work` as one of the ranks of this job, which all end if one fails.
    ///
    /// # Errors
    /// `work` or communication failed.
    pub fn together(&self, device: DeviceName, work: impl FnOnce(&Ranks) -> Result<()>) -> Result<()> {
        let ranks = self.start(self.gpu(device)?)?;
        match work(&ranks) {
            Ok(()) => ranks.finish(),
            Err(error) if error.is::<Interrupted>() => {
                ranks.finish()?;
                if ranks.is_first() { Err(error) } else { Err(ShownByFirst.into()) }
            }
            Err(error) => {
                ranks.fail(&error);
                Err(error)
            }
        }
    }

    /// The GPU that NCCL uses, if it is to be used.
    fn gpu(&self, device: DeviceName) -> Result<Option<usize>> {
        if !self.nccl {
            return Ok(None);
        }
        ensure!(
            cfg!(feature = "nccl"),
            "--nccl: this build of dalle has no NCCL; build it with --features cuda,nccl"
        );
        match device {
            DeviceName::Cuda(gpu) => Ok(Some(gpu)),
            other => bail!("--nccl: expected --device cuda:N, got {other}"),
        }
    }

    #[cfg(feature = "mpi")]
    fn start(&self, gpu: Option<usize>) -> Result<Ranks> {
        use dalle_comm::Options;

        if launched().is_none() {
            return Ok(Ranks::alone());
        }
        let options = Options {
            timeout: std::time::Duration::from_secs(self.rank_timeout),
            per_machine: self.machine_ranks,
            ..Options::default()
        };
        let communicator = communicate(&options, gpu)?;
        share_processors(communicator.size(dalle_comm::Group::Machine))?;
        Ok(Ranks::new(communicator))
    }

    #[cfg(not(feature = "mpi"))]
    fn start(&self, _: Option<usize>) -> Result<Ranks> {
        if let Some(count) = launched().filter(|count| *count > 1) {
            bail!(
                "this is one of {count} ranks, but this build of dalle knows no other ranks; build it with --features mpi \
                 (see docs/cluster.md), or start it without mpirun"
            );
        }
        Ok(Ranks::alone())
    }
}

/// A rank over NCCL and MPI, or over MPI alone.
#[cfg(feature = "nccl")]
fn communicate(options: &dalle_comm::Options, gpu: Option<usize>) -> Result<Communicator> {
    Ok(match gpu {
        Some(gpu) => {
            Communicator::over_mpi(options, move |mpi| Ok(Box::new(dalle_nccl::Nccl::over(mpi, gpu)?)))?
        }
        None => Communicator::mpi(options)?,
    })
}

/// A rank over MPI.
#[cfg(all(feature = "mpi", not(feature = "nccl")))]
fn communicate(options: &dalle_comm::Options, _: Option<usize>) -> Result<Communicator> {
    Ok(Communicator::mpi(options)?)
}

/// Number of ranks that this process was started with, if a launcher started it.
fn launched() -> Option<usize> {
    SIZES.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

/// Gives each of the ranks on this machine an equal part of its processors, unless RAYON_NUM_THREADS says otherwise.
#[cfg(feature = "mpi")]
fn share_processors(ranks: usize) -> Result<()> {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / ranks).max(1);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}
