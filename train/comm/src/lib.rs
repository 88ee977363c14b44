//! Collectives among the ranks of one training (section 2.5, appendix E of the paper).
//!
//! A [`Communicator`] belongs to one rank. Its thread runs collectives one after the other in the order they are called; the caller
//! goes on computing and waits for the result when it needs it:
//!
//! ```
//! use dalle_comm::{Communicator, Group, Wire};
//!
//! # fn main() -> Result<(), dalle_comm::Failure> {
//! let communicator = Communicator::alone();
//! let sum = communicator.all_reduce(Group::World, vec![1.0, 2.0], Wire::F32);
//! // … compute …
//! assert_eq!(sum.wait()?, [1.0, 2.0]);
//! communicator.finish()?;
//! # Ok(())
//! # }
//! ```
//!
//! | constructor | ranks |
//! |---|---|
//! | [`Communicator::alone`] | one |
//! | [`Communicator::threads`] | several in one process, for tests |
//! | `Communicator::mpi`, cargo feature `mpi` | processes on any number of machines, started by `mpirun` or `srun` |
//! | `Communicator::over_mpi` | the same, with another transport for what they send: `dalle-nccl` |
//!
//! Sums are taken in f32 in the order of ranks, so all ranks and all transports get the same bits.
//!
//! All ranks of a group call the same collectives in the same order. If one calls something else, does not call in time, panics,
//! fails or drops its communicator before [`Communicator::finish`], all get a [`Failure`] that names it. Over MPI the rank that
//! notices prints the failure and aborts the job.

mod alone;
mod communicator;
mod failure;
mod group;
mod machines;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;
mod traffic;
mod transport;
mod wire;
mod worker;

pub use alone::Alone;
pub use communicator::{Communicator, Options, Pending};
pub use failure::Failure;
pub use group::{Group, Layout};
pub use traffic::Traffic;
pub use transport::{Call, Header, Transport, Waiting};
pub use wire::Wire;
pub use worker::share;
