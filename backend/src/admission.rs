//! The state that handlers share, and the admission of requests to the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dalle_model::sample::{JobKey, SampleRequest};
use dalle_shared::ErrorCode;
use tokio::sync::Semaphore;

use crate::engine::EngineHandle;
use crate::error_response::ErrorResponse;
use crate::idempotency::{RepeatKey, Repeats};
use crate::jobs::{Job, Registry, Retention};
use crate::lifecycle::{Lifecycle, Phase};
use crate::options::Options;
use crate::queue::{Queue, QueueFull};
use crate::retry::{Load, RetryAfter};
use crate::served::ServedModel;

/// Maximum number of forms with images that are received and decoded at the same time.
const MAX_FORMS: usize = 2;
/// Retry-After in seconds while the model is loading.
const RETRY_LOADING: u64 = 2;

/// The shared state of all handlers.
pub struct App {
    /// The server's phase, and its model.
    pub lifecycle: Arc<Lifecycle>,
    /// Known generations.
    pub jobs: Registry,
    /// Generations waiting for the engine.
    pub queue: Arc<Queue>,
    /// The thread that owns the device.
    pub engine: EngineHandle,
    /// Time limit of the Images API.
    pub images_timeout: Duration,
    /// When the server started, in seconds since 1970.
    pub started: u64,
    /// Permits for forms with images, which take much memory while they are received and decoded.
    pub forms: Semaphore,
    repeats: Repeats,
    retry: RetryAfter,
    /// Rows that the engine advances together.
    max_rows: usize,
    next_key: AtomicU64,
}

impl App {
    /// The state of a server that is loading its model.
    pub fn new(options: &Options, engine: EngineHandle) -> Self {
        let Options { grace, kept_bytes, .. } = *options;
        Self {
            lifecycle: Arc::new(Lifecycle::new()),
            jobs: Registry::new(Retention { grace, age: options.kept_age, bytes: kept_bytes }),
            queue: Arc::new(Queue::new(options.queue)),
            engine,
            images_timeout: options.images_timeout,
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            forms: Semaphore::new(MAX_FORMS),
            repeats: Repeats::default(),
            retry: RetryAfter::default(),
            max_rows: options.rows(),
            next_key: AtomicU64::new(0),
        }
    }

    /// The model, if the server accepts requests.
    ///
    /// # Errors
    /// 503 while the server starts or stops, or if its engine does not respond.
    pub fn model(&self) -> Result<Arc<ServedModel>, ErrorResponse> {
        match (self.lifecycle.phase(), self.lifecycle.model()) {
            (Phase::Ready, Some(_)) if self.engine.is_stalled() => Err(ErrorResponse::stalled()),
            (Phase::Ready, Some(model)) => Ok(model),
            (Phase::Loading | Phase::Ready, _) => {
                let message = "the server is still loading its model; try again in a moment";
                Err(ErrorResponse::new(ErrorCode::Unavailable, message).after(RETRY_LOADING))
            }
            (Phase::Failed(_) | Phase::Stopping, _) => Err(ErrorResponse::stopping()),
        }
    }

    /// The generation that a request with this key started before, otherwise the one that `admit` starts.
    ///
    /// # Errors
    /// The key was used for another request, or `admit` fails.
    pub fn once(
        &self,
        repeat: Option<&RepeatKey>,
        admit: impl FnOnce() -> Result<Arc<Job>, ErrorResponse>,
    ) -> Result<Arc<Job>, ErrorResponse> {
        match repeat {
            Some(repeat) => self.repeats.once(repeat, |job| self.jobs.get(&job.id).is_some(), admit),
            None => admit(),
        }
    }

    /// Puts a valid request into the queue. `scored` says whether CLIP scores its samples; `caption` is the text of the request, if
    /// the server has it.
    ///
    /// # Errors
    /// 429 if the queue is full, with a Retry-After for this client; 400 if the request needs more rows than the engine has.
    pub fn admit(
        &self,
        request: SampleRequest,
        scored: bool,
        caption: Option<String>,
    ) -> Result<Arc<Job>, ErrorResponse> {
        let (rows, samples) = (request.rows(), request.samples);
        if rows > self.max_rows {
            let most = self.max_rows * samples / rows;
            let guided = if request.sampling.is_guided() { " with guidance" } else { "" };
            let message = format!("expected at most {most}{guided} on this server, got {samples}");
            return Err(ErrorResponse::invalid(if scored { "best_of" } else { "samples" }, message));
        }
        let key = JobKey(self.next_key.fetch_add(1, Ordering::Relaxed));
        let job = Job::new(key, request, scored, caption, self.jobs.memory());
        self.queue.push(Arc::clone(&job)).map_err(|full| self.busy(full, rows))?;
        self.jobs.insert(Arc::clone(&job));
        self.engine.wake();
        Ok(job)
    }

    /// The response to a request of `rows` rows when the queue is full.
    fn busy(&self, QueueFull { capacity }: QueueFull, rows: usize) -> ErrorResponse {
        metrics::counter!("dalle_busy_total").increment(1);
        let length = self.lifecycle.model().map_or(0, |model| model.manifest.geometry.image_length());
        let speed = self.engine.speed();
        let load = Load {
            next_place: speed.next_place(),
            row: speed.step().mul_f64(length as f64 / self.max_rows as f64),
            rows,
        };
        let seconds = self.retry.advise(Instant::now(), load, rand::random());
        let message = format!(
            "the server is busy: all {capacity} slots of its queue are taken; try again in {seconds} s"
        );
        ErrorResponse::new(ErrorCode::Busy, message).after(seconds)
    }
}
