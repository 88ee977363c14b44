//! The engine: the thread that owns the device.
//!
//! It receives commands through a channel and appends events to the logs of jobs. The samples of all requests advance together, one
//! token per step (continuous batching). A job joins at any step and leaves when it is complete or its log has ended.
//!
//! Architecture invariant: HTTP handlers never touch a device; only this thread does.

mod command;
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

use self::command::{Command, Conversion};
use self::error::EngineError;
use self::heartbeat::Heartbeat;
use self::speed::Speed;
use self::worker::Worker;
use crate::queue::Queue;
use crate::served::ServedModel;

pub use self::sampler::{EncodeError, ModelSampler, Sampler};

/// Sends commands to the engine, and reads its speed and heartbeat.
#[derive(Clone)]
pub struct EngineHandle {
    commands: Sender<Command>,
    speed: Arc<Speed>,
    heartbeat: Arc<Heartbeat>,
}

/// The engine's thread has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

/// A loaded model. Created on the engine's thread.
pub struct Loaded {
    /// The model as clients see it.
    pub model: ServedModel,
    /// The model's networks.
    pub sampler: Box<dyn Sampler>,
}

/// An engine that has not been started. Its handle exists already, because handlers need it from the start.
pub struct Engine {
    handle: EngineHandle,
    commands: Receiver<Command>,
}

impl Engine {
    /// An engine that is not running yet. It counts as stalled if it has work and makes no progress for `stall_timeout`.
    pub fn new(stall_timeout: Duration) -> Self {
        let (commands, receiver) = channel();
        let heartbeat = Arc::new(Heartbeat::new(stall_timeout));
        Self { handle: EngineHandle { commands, speed: Arc::default(), heartbeat }, commands: receiver }
    }

    /// A handle to this engine.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Starts the thread, which loads the model, warms up, calls `ready`, and processes `queue` until it is stopped. If it fails or
    /// panics at any point, it calls `failed` with the reason. The receiver completes when the thread ends.
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
            // The receiver may have been dropped by a server that stopped waiting.
            let _ = end.send(());
        })?;
        Ok(ended)
    }
}

/// Runs a short caption and one step, so that kernels are compiled and memory is paged in before the first request.
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
    /// Notifies the engine that a job is in the queue.
    pub fn wake(&self) {
        self.send(Command::Wake);
    }

    /// Stops the engine after its current step.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Decodes an image to RGB8, `image_size² · 3` bytes.
    ///
    /// # Errors
    /// [`EngineStopped`] if the engine stops first.
    pub async fn decode(&self, tokens: Vec<ImageToken>) -> Result<Vec<u8>, EngineStopped> {
        let (reply, pixels) = oneshot::channel();
        self.send(Command::Convert(Conversion::Decode { tokens, reply }));
        pixels.await.map_err(|_| EngineStopped)
    }

    /// Encodes an image of the model's size, RGB8, into `grid²` tokens. For models with an encoder.
    ///
    /// # Errors
    /// [`EngineStopped`] if the engine stops first.
    pub async fn encode(&self, pixels: Vec<u8>) -> Result<Vec<ImageToken>, EngineStopped> {
        let (reply, tokens) = oneshot::channel();
        self.send(Command::Convert(Conversion::Encode { pixels, reply }));
        tokens.await.map_err(|_| EngineStopped)
    }

    /// The engine's speed.
    pub fn speed(&self) -> &Speed {
        &self.speed
    }

    /// Time for which the engine has had work and made no progress.
    pub fn silence(&self) -> Duration {
        self.heartbeat.silence(Instant::now())
    }

    /// Silence after which the engine counts as stalled.
    pub fn patience(&self) -> Duration {
        self.heartbeat.patience(self.speed.step())
    }

    /// Whether the engine has stalled.
    pub fn is_stalled(&self) -> bool {
        self.silence() > self.patience()
    }

    fn send(&self, command: Command) {
        self.heartbeat.work_arrives();
        // If the thread has ended, it has reported why, and a dropped reply reports it too.
        let _ = self.commands.send(command);
    }
}
