//! Ranks in processes of their own, over MPI.
//!
//! Only the communication thread calls MPI: it initialises and finalises it too, so that `MPI_THREAD_FUNNELED` is enough. Calls do
//! not block; they are polled until they are done or late. MPI cannot take back a call that other ranks take part in, so every
//! failure ends in `MPI_Abort`, after a message.

use std::io::Write;
use std::time::{Duration, Instant};

use mpi::Tag;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::{Request, Scope};
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::{Communicator as _, CommunicatorCollectives, Destination, Root, Source};

use crate::machines::check_machines;
use crate::transport::{Header, Transport, Waiting};
use crate::{Failure, Group, Layout};

/// Tag of headers.
const HEADER: Tag = 1;
/// How long a rank polls without sleeping: most collectives are done then.
const EAGER: Duration = Duration::from_micros(100);
/// Pause between two polls afterwards, so that other ranks get the processor.
const PAUSE: Duration = Duration::from_micros(50);
/// MPI moves data only while it is called: how often, while there is nothing to do.
const IDLE: Duration = Duration::from_millis(2);

/// This process's rank.
pub(crate) struct Mpi {
    layout: Layout,
    groups: [SimpleCommunicator; 3],
    finished: bool,
    // Dropped last: finalises MPI.
    _universe: Universe,
}

impl Mpi {
    /// Initialises MPI, on the thread that is to call it.
    pub fn start(per_machine: Option<usize>) -> Result<Self, Failure> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled).ok_or_else(|| {
            Failure::Setup("MPI is in use already; expected one communicator in a process".to_owned())
        })?;
        if threading < Threading::Funneled {
            return Err(Failure::Setup(format!(
                "this MPI library allows threads only as {threading:?}; expected at least Funneled"
            )));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        // A machine is known by its first rank.
        let machine = match per_machine {
            Some(count) => {
                check_machines(size, count)?;
                rank / count * count
            }
            None => {
                let shared = world.split_shared(world.rank());
                let mut first = world.rank();
                shared.process_at_rank(0).broadcast_into(&mut first);
                first as usize
            }
        };
        let mut machines = vec![0u64; size];
        world.all_gather_into(&(machine as u64), &mut machines[..]);
        let machines: Vec<usize> = machines.into_iter().map(|machine| machine as usize).collect();
        let ranks_with = |machine| machines.iter().filter(|&&other| other == machine).count();
        if let Some(&other) = machines.iter().find(|&&other| ranks_with(other) != ranks_with(machine)) {
            return Err(Failure::Setup(format!(
                "the machine of rank {machine} has {} ranks and that of rank {other} has {}; expected the same number on all machines",
                ranks_with(machine),
                ranks_with(other)
            )));
        }
        let layout = Layout::new(rank, &machines);
        let groups = Group::ALL.map(|group| {
            let color = Color::with_value(layout.members(group)[0] as i32);
            world.split_by_color_with_key(color, world.rank()).expect("every rank has a colour")
        });
        Ok(Self { layout, groups, finished: false, _universe: universe })
    }

    fn group(&self, waiting: &Waiting) -> &SimpleCommunicator {
        &self.groups[waiting.group() as usize]
    }

    /// Prints a failure and ends the job.
    fn abort(&self, failure: &Failure) -> ! {
        // In one piece, so that the messages of several ranks do not mix. If it cannot be printed, nothing can.
        drop(std::io::stderr().write_all(format!("dalle: {failure}\n").as_bytes()));
        self.groups[Group::World as usize].abort(1)
    }

    /// Polls a collective until it is done.
    fn complete<'a, D: ?Sized, S: Scope<'a>>(&self, waiting: &Waiting, request: Request<'a, D, S>) {
        let mut request = Some(request);
        self.poll(waiting, |_| match request.take().map(Request::test) {
            Some(Err(unfinished)) => {
                request = Some(unfinished);
                false
            }
            _ => true,
        });
    }

    /// Polls until `done`, which lists the ranks that it waits for when they are asked for.
    fn poll(&self, waiting: &Waiting, mut done: impl FnMut(&mut Option<Vec<usize>>) -> bool) {
        let begun = Instant::now();
        while !done(&mut None) {
            if waiting.is_over() {
                let mut missing = Some(Vec::new());
                if done(&mut missing) {
                    return;
                }
                let missing = missing.filter(|ranks| !ranks.is_empty()).unwrap_or_else(|| {
                    let ranks = self.layout.members(waiting.group()).iter().copied();
                    ranks.filter(|&rank| rank != self.layout.rank(Group::World)).collect()
                });
                self.abort(&waiting.late(&missing));
            }
            if begun.elapsed() < EAGER {
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Exchanges headers in some groups at once.
    fn exchange_all(&self, waiting: &[&Waiting], own: Header) -> Vec<Vec<Header>> {
        let sent = own.to_bytes();
        let group = |waiting: &Waiting| self.layout.members(waiting.group());
        let mut received: Vec<Vec<[u8; Header::BYTES]>> =
            waiting.iter().map(|waiting| vec![sent; group(waiting).len()]).collect();
        mpi::request::scope(|scope| {
            let (mut sends, mut receives) = (Vec::new(), Vec::new());
            for (waiting, received) in waiting.iter().zip(&mut received) {
                let ranks = self.group(waiting);
                for (place, received) in received.iter_mut().enumerate() {
                    if place == self.layout.rank(waiting.group()) {
                        continue;
                    }
                    let process = ranks.process_at_rank(place as i32);
                    receives.push((
                        group(waiting)[place],
                        process.immediate_receive_into_with_tag(scope, &mut received[..], HEADER),
                    ));
                    sends.push(process.immediate_send_with_tag(scope, &sent[..], HEADER));
                }
            }
            let Some(first) = waiting.first() else { return };
            self.poll(first, |missing| {
                sends = std::mem::take(&mut sends).into_iter().filter_map(|send| send.test().err()).collect();
                let pending = std::mem::take(&mut receives).into_iter();
                receives =
                    pending.filter_map(|(rank, receive)| Some((rank, receive.test().err()?))).collect();
                if let Some(missing) = missing {
                    missing.extend(receives.iter().map(|(rank, _)| *rank));
                    missing.sort_unstable();
                    missing.dedup();
                }
                sends.is_empty() && receives.is_empty()
            });
        });
        let header = |bytes: &[u8; Header::BYTES]| {
            Header::from_bytes(bytes).unwrap_or_else(|| {
                self.abort(&Failure::Setup(
                    "the ranks of this job are not the same version of the program; start all with the same"
                        .to_owned(),
                ))
            })
        };
        received.iter().map(|received| received.iter().map(header).collect()).collect()
    }
}

impl Transport for Mpi {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn exchange(&mut self, waiting: &Waiting, own: Header) -> Result<Vec<Header>, Failure> {
        Ok(self.exchange_all(&[waiting], own).swap_remove(0))
    }

    fn all_to_all(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        mpi::request::scope(|scope| {
            let request = self.group(waiting).immediate_all_to_all_into(scope, sent, received);
            self.complete(waiting, request);
        });
        Ok(())
    }

    fn all_gather(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        mpi::request::scope(|scope| {
            let request = self.group(waiting).immediate_all_gather_into(scope, sent, received);
            self.complete(waiting, request);
        });
        Ok(())
    }

    fn broadcast(&mut self, waiting: &Waiting, root: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        mpi::request::scope(|scope| {
            let root = self.group(waiting).process_at_rank(root as i32);
            let request = root.immediate_broadcast_into(scope, bytes);
            self.complete(waiting, request);
        });
        Ok(())
    }

    fn finish(&mut self, waiting: &[Waiting; 3], own: Header) -> Result<[Vec<Header>; 3], Failure> {
        let all = self.exchange_all(&waiting.each_ref(), own);
        self.finished = true;
        Ok(all.try_into().expect("one for each group"))
    }

    fn abandon(&mut self, failure: Failure) -> Failure {
        self.abort(&failure)
    }

    fn idle(&mut self) -> Option<Duration> {
        self.groups[Group::World as usize].any_process().immediate_probe_with_tag(HEADER);
        Some(IDLE)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if !self.finished {
            self.abort(&Failure::Thread { rank: self.layout.rank(Group::World) });
        }
    }
}
