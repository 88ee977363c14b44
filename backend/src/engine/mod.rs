//! The one thread that owns the device.
//!
//! Commands come in by a channel, what happens goes out to the jobs' logs. Samples of several requests advance together,
//! one token a step (continuous batching): a job joins at any step and leaves when it is complete or its log has ended.
//!
//! Architecture invariant: HTTP handlers never touch a device; only this thread does.

mod error;
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

use dalle_model::sample::{JobKey, SampleRequest};
use dalle_shared::{ImageToken, SamplingSettings, TextToken};
use tokio::sync::oneshot;

use self::error::EngineError;
use self::running::Running;
use self::speed::Speed;
use self::worker::Worker;
use crate::queue::Queue;
use crate::served::ServedModel;

pub use self::sampler::{ModelSampler, Sampler};

/// What [`EngineHandle`] asks of the thread.
enum Command {
    /// The queue has something.
    Wake,
    /// Turn tokens into pixels.
    Decode(Decode),
    /// Leave.
    Stop,
}

/// A picture to decode. There are never more than finished jobs whose client still waits.
struct Decode {
    tokens: Vec<ImageToken>,
    reply: oneshot::Sender<Vec<u8>>,
}

/// The other side's end of the engine's channel.
#[derive(Clone)]
pub struct EngineHandle {
    commands: Sender<Command>,
    speed: Arc<Speed>,
}

/// The engine's thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineGone;

/// What the engine runs: a model as clients see it, and as it samples. Made by the engine's own thread.
pub struct Loaded {
    /// What clients see.
    pub model: ServedModel,
    /// What samples.
    pub sampler: Box<dyn Sampler>,
}

/// An engine that is to be started: its handle exists before it, so that requests have somewhere to go.
pub struct Engine {
    handle: EngineHandle,
    commands: Receiver<Command>,
}

impl Engine {
    /// Not yet running.
    pub fn new() -> Self {
        let (commands, receiver) = channel();
        Self { handle: EngineHandle { commands, speed: Arc::default() }, commands: receiver }
    }

    /// To send commands with.
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
        let Self { handle: EngineHandle { speed, .. }, commands } = self;
        let work = move || -> anyhow::Result<()> {
            let Loaded { model, mut sampler } = load()?;
            warm_up(sampler.as_mut())?;
            let image_length = model.manifest.geometry.image_length();
            ready(model);
            Ok(Worker::new(sampler, queue, speed, image_length, max_rows).run(&commands)?)
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

/// Runs the shortest caption through one step, so that the first request finds kernels compiled and
/// memory touched.
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
    /// Says that the queue has something.
    pub fn wake(&self) {
        // An engine that is gone has told the lifecycle why.
        let _ = self.commands.send(Command::Wake);
    }

    /// Asks the engine to leave after its present step.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// The pixels of a picture: RGB8, `image_size² · 3` bytes.
    ///
    /// # Errors
    /// [`EngineGone`] when it stopped before it got to it.
    pub async fn decode(&self, tokens: Vec<ImageToken>) -> Result<Vec<u8>, EngineGone> {
        let (reply, pixels) = oneshot::channel();
        self.commands.send(Command::Decode(Decode { tokens, reply })).map_err(|_| EngineGone)?;
        pixels.await.map_err(|_| EngineGone)
    }

    /// Whole seconds after which the queue should have a place, from measured speed.
    pub fn retry_after(&self) -> u64 {
        self.speed.retry_after()
    }
}
