//! A rank's access to the others.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::machines::check_machines;
use crate::threads::Threads;
use crate::traffic::{Counters, Traffic};
use crate::transport::Transport;
use crate::worker::{Job, Worker};
use crate::{Failure, Group, Layout, Wire};

/// How ranks communicate.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a rank waits for others in a collective. It must cover what one rank does alone, such as writing a checkpoint.
    pub timeout: Duration,
    /// How long a rank waits for all to start.
    pub start_timeout: Duration,
    /// Ranks that count as one machine: those with neighbouring numbers. Without it, the ranks that share memory do.
    pub per_machine: Option<usize>,
    /// Most bytes that a transport gets at once; more is sent in parts. MPI counts bytes in 32 bits.
    pub most_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(10),
            start_timeout: Duration::from_mins(10),
            per_machine: None,
            most_bytes: 1 << 30,
        }
    }
}

/// One rank of a training. Collectives return at once; their results are [`Pending`].
pub struct Communicator {
    layout: Layout,
    counters: Arc<Counters>,
    /// `None` once finished.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A result of a collective. Dropping it does not stop the collective, which other ranks wait for.
#[must_use = "a failure of the collective is only seen in its result"]
pub struct Pending<T> {
    receiver: Receiver<Result<T, Failure>>,
    counters: Arc<Counters>,
    group: Group,
    rank: usize,
}

impl<T> Pending<T> {
    /// Waits for the result: at most the timeout of each collective that was called before it and is not done.
    ///
    /// # Errors
    /// Communication failed, now or before.
    pub fn wait(self) -> Result<T, Failure> {
        let begun = Instant::now();
        let result = self.receiver.recv();
        self.counters.waited(self.group, begun.elapsed());
        result.unwrap_or(Err(Failure::Thread { rank: self.rank }))
    }
}

impl Communicator {
    /// The only rank.
    pub fn alone() -> Self {
        Self::start(|| Ok(Box::new(Alone::new()) as Box<dyn Transport>), &Options::default())
            .expect("a single rank needs nothing from outside but a thread")
    }

    /// `size` ranks in this process, to be moved to threads of their own. They are all on one machine, unless the options say
    /// otherwise.
    ///
    /// # Errors
    /// `per_machine` does not divide `size`.
    pub fn threads(size: usize, options: &Options) -> Result<Vec<Self>, Failure> {
        let per_machine = options.per_machine.unwrap_or(size);
        check_machines(size, per_machine)?;
        let start = |transport| Self::start(move || Ok(Box::new(transport) as Box<dyn Transport>), options);
        Threads::all(size, per_machine).into_iter().map(start).collect()
    }

    /// A rank of the processes that `mpirun` or `srun` started; alone if neither did. At most once in a process.
    ///
    /// # Errors
    /// MPI cannot be used, ranks do not start in time, or machines have different numbers of ranks.
    #[cfg(feature = "mpi")]
    pub fn mpi(options: &Options) -> Result<Self, Failure> {
        Self::over_mpi(options, Ok)
    }

    /// The same with a transport that `above` makes of MPI's, on the communication thread.
    ///
    /// # Errors
    /// As [`Communicator::mpi`], or `above` fails.
    #[cfg(feature = "mpi")]
    pub fn over_mpi(
        options: &Options,
        above: impl FnOnce(Box<dyn Transport>) -> Result<Box<dyn Transport>, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let per_machine = options.per_machine;
        Self::start(move || above(Box::new(crate::mpi::Mpi::start(per_machine)?)), options)
    }

    /// A rank whose transport is made on its communication thread, which it never leaves.
    ///
    /// # Errors
    /// The transport cannot be made in time.
    pub fn start(
        transport: impl FnOnce() -> Result<Box<dyn Transport>, Failure> + Send + 'static,
        options: &Options,
    ) -> Result<Self, Failure> {
        let Options { timeout, start_timeout, most_bytes, .. } = *options;
        let counters = Arc::new(Counters::default());
        let (jobs, receiver) = channel();
        let (ready, started) = channel();
        let shared = counters.clone();
        let run = move || match transport() {
            Ok(transport) => {
                let worker = Worker::new(transport, shared, timeout, most_bytes.max(1));
                if ready.send(Ok(worker.layout().clone())).is_ok() {
                    worker.serve(&receiver);
                }
            }
            // Sending fails only if the receiver has stopped waiting.
            Err(failure) => drop(ready.send(Err(failure))),
        };
        let thread = std::thread::Builder::new().name("communication".to_owned()).spawn(run);
        let thread =
            thread.map_err(|error| Failure::Setup(format!("a thread cannot be started: {error}")))?;
        let layout = started.recv_timeout(start_timeout).unwrap_or_else(|error| {
            Err(Failure::Setup(match error {
                RecvTimeoutError::Timeout => format!(
                    "the ranks of this job did not all start within {} s; see which of them have started",
                    start_timeout.as_secs_f64()
                ),
                RecvTimeoutError::Disconnected => "the communication thread panicked at its start".to_owned(),
            }))
        })?;
        Ok(Self { layout, counters, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Where this rank is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of this rank in a group.
    pub fn rank(&self, group: Group) -> usize {
        self.layout.rank(group)
    }

    /// Ranks in a group.
    pub fn size(&self, group: Group) -> usize {
        self.layout.size(group)
    }

    /// What this rank communicated in a group so far.
    pub fn traffic(&self, group: Group) -> Traffic {
        self.counters.read(group)
    }

    /// Waits until all ranks of the group are here.
    pub fn barrier(&self, group: Group) -> Pending<()> {
        self.call(group, move |worker| worker.barrier(group))
    }

    /// The bytes of rank `root` of the group, on all of them. Those of other ranks are ignored.
    pub fn broadcast(&self, group: Group, root: usize, bytes: Vec<u8>) -> Pending<Vec<u8>> {
        self.call(group, move |worker| worker.broadcast(group, root, bytes))
    }

    /// The bytes of all ranks of the group one after the other; their lengths may differ.
    pub fn all_gather(&self, group: Group, own: Vec<u8>) -> Pending<Vec<u8>> {
        self.call(group, move |worker| worker.all_gather(group, own))
    }

    /// Sends each rank of the group an equal part of `parts`; returns what they sent to this one, in their order.
    ///
    /// # Panics
    /// If the group's size does not divide the number of bytes.
    pub fn all_to_all(&self, group: Group, parts: Vec<u8>) -> Pending<Vec<u8>> {
        let size = self.size(group);
        assert!(parts.len().is_multiple_of(size), "{} bytes are not {size} equal parts", parts.len());
        self.call(group, move |worker| worker.all_to_all(group, parts))
    }

    /// The values of all ranks of the group one after the other; their numbers may differ. Gathers what
    /// [`reduce_scatter`](Self::reduce_scatter) scattered.
    pub fn gather_values(&self, group: Group, own: Vec<f32>, wire: Wire) -> Pending<Vec<f32>> {
        self.call(group, move |worker| worker.gather_values(group, &own, wire))
    }

    /// This rank's [`share`](crate::share) of the sums over the ranks of the group. Values are sent as `wire`, and summed in f32 in the
    /// order of ranks.
    pub fn reduce_scatter(&self, group: Group, values: Vec<f32>, wire: Wire) -> Pending<Vec<f32>> {
        self.call(group, move |worker| worker.reduce_scatter(group, &values, wire))
    }

    /// The sums over the ranks of the group, the same bits on all of them. Values are sent as `wire` and summed in f32 in the order of
    /// ranks; the sums are sent as `wire` too.
    pub fn all_reduce(&self, group: Group, values: Vec<f32>, wire: Wire) -> Pending<Vec<f32>> {
        self.call(group, move |worker| worker.all_reduce(group, values, wire))
    }

    /// Ends communication when all ranks do. A communicator that is dropped without it ends that of all ranks with a failure.
    ///
    /// # Errors
    /// Communication failed, now or before, or other ranks call something else.
    pub fn finish(&self) -> Result<(), Failure> {
        self.call(Group::World, Worker::finish).wait()
    }

    /// Ends the communication of all ranks with this rank's error.
    pub fn fail(&self, reason: impl std::fmt::Display) {
        let failure = Failure::Reported { rank: self.rank(Group::World), reason: reason.to_string() };
        // The failure itself, or one before it, which ended communication already.
        drop(self.call(Group::World, move |_| Err::<(), _>(failure)).wait());
    }

    fn call<T: Send + 'static>(
        &self,
        group: Group,
        collective: impl FnOnce(&mut Worker) -> Result<T, Failure> + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = channel();
        self.send(Box::new(move |worker| {
            // The result may have been dropped.
            drop(sender.send(worker.run(group, collective)));
        }));
        Pending { receiver, counters: self.counters.clone(), group, rank: self.rank(Group::World) }
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Fails if the thread panicked; then the result says so.
            drop(jobs.send(job));
        }
    }

    fn abandon(&mut self, failure: Failure) {
        self.send(Box::new(move |worker| {
            worker.abandon(failure);
        }));
        self.end();
    }

    /// Waits for the communication thread.
    fn end(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: that was reported where it happened, and to those who wait for results.
            drop(thread.join());
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if self.jobs.is_some() {
            let rank = self.rank(Group::World);
            self.abandon(if std::thread::panicking() {
                Failure::Panicked { rank }
            } else {
                Failure::Left { rank }
            });
        }
    }
}
