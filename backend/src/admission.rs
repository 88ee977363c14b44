//! The way into the queue, and what every handler needs on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dalle_model::sample::{JobKey, SampleRequest};
use dalle_shared::ErrorCode;

use crate::engine::EngineHandle;
use crate::error_response::ErrorResponse;
use crate::jobs::{Job, Registry};
use crate::lifecycle::{Lifecycle, Phase};
use crate::queue::{Full, Queue};
use crate::served::ServedModel;

/// The server's parts, shared by all handlers.
pub struct App {
    /// Between start and end.
    pub lifecycle: Arc<Lifecycle>,
    /// Known generations.
    pub jobs: Registry,
    /// Those that wait.
    pub queue: Arc<Queue>,
    /// The device's thread.
    pub engine: EngineHandle,
    /// The Images API answers within this time.
    pub images_timeout: Duration,
    /// Rows that the engine advances together.
    max_rows: usize,
    next_key: AtomicU64,
}

impl App {
    /// Nothing admitted yet.
    pub fn new(
        lifecycle: Arc<Lifecycle>,
        jobs: Registry,
        queue: Arc<Queue>,
        engine: EngineHandle,
        max_rows: usize,
        images_timeout: Duration,
    ) -> Self {
        Self { lifecycle, jobs, queue, engine, images_timeout, max_rows, next_key: AtomicU64::new(0) }
    }

    /// The model, if requests for it are welcome.
    ///
    /// # Errors
    /// 503 while the server starts or stops.
    pub fn model(&self) -> Result<Arc<ServedModel>, ErrorResponse> {
        match (self.lifecycle.phase(), self.lifecycle.model()) {
            (Phase::Ready, Some(model)) => Ok(model),
            (Phase::Loading | Phase::Ready, _) => {
                let message = "the server is still loading its model; try again in a moment";
                Err(ErrorResponse::new(ErrorCode::Unavailable, message).after(2))
            }
            (Phase::Failed(_) | Phase::Stopping, _) => Err(ErrorResponse::stopping()),
        }
    }

    /// Puts a checked request into the queue; `scored` if the contrastive model is to score its samples.
    ///
    /// # Errors
    /// 429 when the queue is full, with the seconds after which it should have a place; 400 when it needs more rows than there
    /// will ever be.
    pub fn admit(&self, request: SampleRequest, scored: bool) -> Result<Arc<Job>, ErrorResponse> {
        if request.rows() > self.max_rows {
            let most = self.max_rows * request.samples / request.rows();
            let guided = if request.sampling.is_guided() { " with guidance" } else { "" };
            let message = format!("expected at most {most}{guided}, on this server, got {}", request.samples);
            return Err(ErrorResponse::invalid(if scored { "best_of" } else { "samples" }, message));
        }
        let key = JobKey(self.next_key.fetch_add(1, Ordering::Relaxed));
        let job = Job::new(key, request, scored);
        self.queue.push(Arc::clone(&job)).map_err(|Full { capacity }| {
            metrics::counter!("dalle_busy_total").increment(1);
            let seconds = self.engine.retry_after();
            let message = format!(
                "the server is busy: {capacity} requests are waiting, more it does not take; try again in {seconds} s"
            );
            ErrorResponse::new(ErrorCode::Busy, message).after(seconds)
        })?;
        self.jobs.insert(Arc::clone(&job));
        self.engine.wake();
        Ok(job)
    }
}
