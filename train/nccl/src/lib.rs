//! Carries what ranks on NVIDIA GPUs send each other by NCCL.
//!
//! [`Nccl`] is a [`Transport`] above another one, which starts the ranks and compares what they are about to do:
//!
//! ```text
//! let communicator = Communicator::over_mpi(&options, move |mpi| Ok(Box::new(Nccl::over(mpi, gpu)?)))?;
//! ```
//!
//! Headers and short messages stay with the transport below. Longer ones are copied to the GPU, sent by NCCL, over NVLink or the network's
//! adapters, and copied back. Values are summed on the host, in f32 and in the order of ranks, so training has the same bits as over any
//! other transport.
//!
//! CUDA and NCCL are loaded when they are first used (`libcuda.so`, `libnccl.so`): the crate builds without them.
//!
//! **It was type-checked and never run on a GPU.** What is tested is that ranks without the libraries end with a message.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{CudaContext, CudaStream};
use cudarc::nccl::{Comm, Id, group_end, group_start};
use dalle_comm::{Failure, Group, Header, Layout, Transport, Waiting};

/// Bytes for each rank below which the transport below is faster than a copy to the GPU and back.
const SHORT: usize = 1 << 16;
/// Bytes of NCCL's unique id.
const ID: usize = 128;
/// Pause between two looks at whether a transfer is done.
const PAUSE: Duration = Duration::from_micros(20);

/// A rank's GPU, and its communicators.
pub struct Nccl {
    below: Box<dyn Transport>,
    stream: Arc<CudaStream>,
    /// One for each group. Made when the group first sends a long message.
    groups: [Option<Comm>; 3],
}

impl Nccl {
    /// A rank whose long messages go through the CUDA device `gpu`. Each rank of a machine needs a device of its own. Called on the thread
    /// that uses the transport.
    ///
    /// # Errors
    /// CUDA or NCCL cannot be loaded, or the device cannot be used. All ranks are told through the transport below.
    pub fn over(mut below: Box<dyn Transport>, gpu: usize) -> Result<Self, Failure> {
        match open(gpu) {
            Ok(stream) => Ok(Self { below, stream, groups: [None, None, None] }),
            Err(reason) => {
                let rank = below.layout().rank(Group::World);
                Err(below.abandon(Failure::Reported { rank, reason }))
            }
        }
    }

    fn failure(&self, doing: &str, error: impl std::fmt::Debug) -> Failure {
        let rank = self.below.layout().rank(Group::World);
        Failure::Reported { rank, reason: format!("NCCL failed {doing}: {error:?}") }
    }

    /// Makes the group's communicator, if there is none. All its ranks call this in the same collective, after they exchanged headers.
    fn join(&mut self, waiting: &Waiting) -> Result<(), Failure> {
        let group = waiting.group();
        if self.groups[group as usize].is_some() {
            return Ok(());
        }
        let (rank, size) = (self.below.layout().rank(group), self.below.layout().size(group));
        let mut bytes = [0; ID];
        if rank == 0 {
            let id = Id::new().map_err(|error| self.failure("making a unique id", error))?;
            bytes = id.internal().map(|byte| byte as u8);
        }
        self.below.broadcast(waiting, 0, &mut bytes)?;
        let id = Id::uninit(bytes.map(|byte| byte as core::ffi::c_char));
        let comm = Comm::from_rank(self.stream.clone(), rank, size, id);
        self.groups[group as usize] =
            Some(comm.map_err(|error| self.failure("joining the other ranks", error))?);
        Ok(())
    }

    /// Sends bytes from the GPU by `call`, and reads as many as `received` has room for.
    fn transfer(
        &mut self,
        waiting: &Waiting,
        sent: &[u8],
        received: &mut [u8],
        call: impl FnOnce(&Comm, &Buffer, &mut Buffer) -> Result<(), cudarc::nccl::result::NcclError>,
    ) -> Result<(), Failure> {
        self.join(waiting)?;
        let Some(comm) = &self.groups[waiting.group() as usize] else {
            return Err(self.failure("joining the other ranks", "no communicator"));
        };
        let copied = |error| self.failure("copying between the host and the GPU", error);
        let from = self.stream.clone_htod(sent).map_err(copied)?;
        let mut to = self.stream.alloc_zeros::<u8>(received.len()).map_err(copied)?;
        call(comm, &from, &mut to).map_err(|error| self.failure("sending", error))?;
        // The stream runs in order: when the event is done, the transfer is.
        let done = self.stream.record_event(None).map_err(copied)?;
        while !done.try_is_complete().map_err(|error| self.failure("sending", error))? {
            if waiting.is_over() {
                let own = self.below.layout().rank(Group::World);
                let members = self.below.layout().members(waiting.group()).iter().copied();
                return Err(waiting.late(&members.filter(|rank| *rank != own).collect::<Vec<_>>()));
            }
            std::thread::sleep(PAUSE);
        }
        self.stream.memcpy_dtoh(&to, received).map_err(copied)?;
        self.stream.synchronize().map_err(copied)
    }
}

type Buffer = cudarc::driver::CudaSlice<u8>;

/// The stream of a device.
fn open(gpu: usize) -> Result<Arc<CudaStream>, String> {
    let missing = |library: &str, package: &str| {
        format!("{library} cannot be loaded; install {package} on every machine, or leave out --nccl")
    };
    // SAFETY: loading a shared library runs its initialisers. These are NVIDIA's libraries, whose initialisers have no preconditions, and which
    // every later call of this crate loads too. Nothing else is called.
    #[allow(unsafe_code)]
    let (cuda, nccl) =
        unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nccl::sys::is_culib_present()) };
    if !cuda {
        return Err(missing("libcuda.so", "NVIDIA's driver"));
    }
    if !nccl {
        return Err(missing("libnccl.so", "NCCL, with the name that its development package gives it,"));
    }
    let context = CudaContext::new(gpu).map_err(|error| format!("cuda:{gpu} cannot be used: {error:?}"))?;
    context.new_stream().map_err(|error| format!("cuda:{gpu} gives no stream: {error:?}"))
}

impl Transport for Nccl {
    fn layout(&self) -> &Layout {
        self.below.layout()
    }

    fn exchange(&mut self, waiting: &Waiting, own: Header) -> Result<Vec<Header>, Failure> {
        self.below.exchange(waiting, own)
    }

    fn all_to_all(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        let size = self.below.layout().size(waiting.group());
        let part = sent.len() / size;
        if part < SHORT {
            return self.below.all_to_all(waiting, sent, received);
        }
        self.transfer(waiting, sent, received, |comm, from, to| {
            // One group: no rank waits for another's send before its own receive.
            group_start()?;
            for rank in 0..size {
                let bytes = rank * part..(rank + 1) * part;
                comm.send(&from.slice(bytes.clone()), rank as i32)?;
                comm.recv(&mut to.slice_mut(bytes), rank as i32)?;
            }
            group_end()?;
            Ok(())
        })
    }

    fn all_gather(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        if sent.len() < SHORT {
            return self.below.all_gather(waiting, sent, received);
        }
        self.transfer(waiting, sent, received, |comm, from, to| comm.all_gather(from, to).map(|_| ()))
    }

    fn broadcast(&mut self, waiting: &Waiting, root: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        if bytes.len() < SHORT {
            return self.below.broadcast(waiting, root, bytes);
        }
        let sent = bytes.to_vec();
        self.transfer(waiting, &sent, bytes, |comm, from, to| {
            comm.broadcast(Some(from), to, root as i32).map(|_| ())
        })
    }

    fn finish(&mut self, waiting: &[Waiting; 3], own: Header) -> Result<[Vec<Header>; 3], Failure> {
        let all = self.below.finish(waiting, own)?;
        // No rank sends any more.
        self.groups = [None, None, None];
        Ok(all)
    }

    fn abandon(&mut self, failure: Failure) -> Failure {
        self.below.abandon(failure)
    }

    fn idle(&mut self) -> Option<Duration> {
        self.below.idle()
    }
}
