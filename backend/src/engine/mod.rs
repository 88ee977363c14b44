//! The thread that owns the device.
//!
//! It receives commands by a channel and appends events to the logs of jobs. Samples of several requests advance together, one
//! token a step (continuous batching): a job joins at any step and leaves when it is complete or its log has ended.
//!
//! Architecture invariant: HTTP handlers never touch a device; only this thread does.

mod error;
mod heartbeat;
mod running;
mod sampler;
mod scoring;
mod speed;
mod throttle;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use dalle_model::sample::{JobKey, SampleRequest};
use dalle_shared::{ImageToken, SamplingSettings, TextToken};
use tokio::sync::oneshot;

use self::error::EngineError;
use self::heartbeat::Heartbeat;
use self::running::Running;
use self::speed::Speed;
use self::worker::Worker;
use crate::queue::Queue;
use crate::served::ServedModel;

pub use self::sampler::{ModelSampler, Sampler};

/// A command of an [`EngineHandle`] to the thread.
enum Command {
    /// A job is in the queue.
    Wake,
    /// Decode an image.
    Decode(Decode),
    /// End.
    Stop,
}

/// An image to decode. Their number is bounded by the finished jobs whose client still waits.
struct Decode {
    tokens: Vec<ImageToken>,
    reply: oneshot::Sender<Vec<u8>>,
}

/// Sends commands to the engine, and tells how it is.
#[derive(Clone)]
pub struct EngineHandle {
    commands: Sender<Command>,
    speed: Arc<Speed>,
    heartbeat: Arc<Heartbeat>,
}

/// The engine's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineGone;

/// A loaded model. It is made on the engine's thread.
pub struct Loaded {
    /// What clients see of it.
    pub model: ServedModel,
    /// Its networks.
    pub sampler: Box<dyn Sampler>,
}

/// An engine that is not started. It has a handle already, which handlers need from the start.
pub struct Engine {
    handle: EngineHandle,
    commands: Receiver<Command>,
}

impl Engine {
    /// Not yet running. It has stalled when it has work and makes no progress for `stall_timeout`.
    pub fn new(stall_timeout: Duration) -> Self {
        let (commands, receiver) = channel();
        let heartbeat = Arc::new(Heartbeat::new(stall_timeout));
        Self { handle: EngineHandle { commands, speed: Arc::default(), heartbeat }, commands: receiver }
    }

    /// A handle to this engine.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Starts the thread: it loads, warms up, calls `ready`, and works on `queue` until it is stopped. `failed` is called with
    /// the reason if it fails or panics at any point. The receiver completes when the thread ends.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        self,
        load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
        queue: Arc<Queue>,
        max_rows: usize,
        ready: impl FnOnce(ServedModel) + Send + 'static,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<oneshot::Receiver<()>> {
        let Self { handle: EngineHandle { speed, heartbeat, .. }, commands } = self;
        let work = move || -> anyhow::Result<()> {
            let Loaded { model, mut sampler } = load()?;
            warm_up(sampler.as_mut())?;
            let image_length = model.manifest.geometry.image_length();
            ready(model);
            Ok(Worker::new(sampler, queue, speed, heartbeat, image_length, max_rows).run(&commands)?)
        };
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(format!("{error:#}")),
                // The panic hook has printed what happened and where.
                Err(_) => failed("the engine panicked".to_owned()),
            }
            // A server that has stopped waiting has dropped the receiver.
            let _ = end.send(());
        })?;
        Ok(ended)
    }
}

/// Runs a short caption and one step, so that kernels are compiled and memory is touched before the first request.
///
/// # Errors
/// The device fails, or the model's logits are not finite.
fn warm_up(sampler: &mut dyn Sampler) -> Result<(), EngineError> {
    const WARM_UP: JobKey = JobKey(u64::MAX);
    let request = SampleRequest {
        text: vec![TextToken(0)],
        samples: 1,
        seed: 0,
        sampling: SamplingSettings::default(),
        prefix: Vec::new(),
    };
    sampler.admit(WARM_UP, request)?;
    for output in sampler.step()? {
        output.tokens?;
    }
    sampler.remove(WARM_UP);
    Ok(())
}

impl EngineHandle {
    /// Tells the engine that a job is in the queue.
    pub fn wake(&self) {
        self.send(Command::Wake);
    }

    /// Asks the engine to end after its present step.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// The pixels of an image: RGB8, `image_size² · 3` bytes.
    ///
    /// # Errors
    /// [`EngineGone`] if it stops first.
    pub async fn decode(&self, tokens: Vec<ImageToken>) -> Result<Vec<u8>, EngineGone> {
        let (reply, pixels) = oneshot::channel();
        self.send(Command::Decode(Decode { tokens, reply }));
        pixels.await.map_err(|_| EngineGone)
    }

    /// How fast it is.
    pub fn speed(&self) -> &Speed {
        &self.speed
    }

    /// Time for which the engine has had work and made no progress.
    pub fn silence(&self) -> Duration {
        self.heartbeat.silence(Instant::now())
    }

    /// Silence after which the engine has stalled.
    pub fn patience(&self) -> Duration {
        self.heartbeat.patience(self.speed.step())
    }

    /// Whether the engine has stalled.
    pub fn is_stalled(&self) -> bool {
        self.silence() > self.patience()
    }

    fn send(&self, command: Command) {
        self.heartbeat.work_arrives();
        // An engine that has ended has reported why, and a reply that it drops says so too.
        let _ = self.commands.send(command);
    }
}
