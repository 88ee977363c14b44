//! A generation: its request, log and viewers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use dalle_model::sample::{JobKey, SampleRequest};
use dalle_shared::EventKind;
use parking_lot::Mutex;

use super::Log;

/// Maximum number of viewers of a generation.
const MAX_VIEWERS: usize = 32;

/// A generation, from admission until it is forgotten.
pub struct Job {
    /// 128 random bits in hexadecimal. It authorises a client to watch and cancel, so it is not logged.
    pub id: String,
    /// The job's number, for the engine and log messages.
    pub key: JobKey,
    /// What to sample.
    pub request: SampleRequest,
    /// Whether CLIP scores its samples.
    pub scored: bool,
    /// The caption, if the client sent it as text. For the metadata of images; it is not logged.
    pub caption: Option<String>,
    /// The job's events.
    pub log: Log,
    /// Time of its admission.
    pub created: Instant,
    viewers: Mutex<Viewers>,
}

struct Viewers {
    watching: usize,
    /// When the last viewer left, a client last polled the state, or the job was created.
    alone_since: Instant,
}

impl Job {
    /// A new job with a random id. Its memory is counted in `memory` until it is dropped.
    pub fn new(
        key: JobKey,
        request: SampleRequest,
        scored: bool,
        caption: Option<String>,
        memory: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let created = Instant::now();
        let bytes = size_of::<Self>()
            + size_of_val(&*request.text)
            + size_of_val(&*request.prefix)
            + caption.as_ref().map_or(0, String::len);
        Arc::new(Self {
            id: format!("{:032x}", rand::random::<u128>()),
            key,
            request,
            scored,
            caption,
            log: Log::new(bytes, memory),
            created,
            viewers: Mutex::new(Viewers { watching: 0, alone_since: created }),
        })
    }

    /// Cancels the job unless it has ended. The engine removes it before its next step.
    pub fn cancel(&self) {
        self.log.append(EventKind::Cancelled);
    }

    /// Adds a viewer until the result is dropped. None if there are too many.
    pub fn view(self: &Arc<Self>) -> Option<Viewer> {
        let mut viewers = self.viewers.lock();
        if viewers.watching >= MAX_VIEWERS {
            return None;
        }
        viewers.watching += 1;
        Some(Viewer { job: Arc::clone(self) })
    }

    /// Restarts the grace time, because a client has polled the state.
    pub fn touch(&self) {
        self.viewers.lock().alone_since = Instant::now();
    }

    /// When the job counts as abandoned, with a grace time of `grace`; None while it has viewers.
    pub fn abandoned_at(&self, grace: Duration) -> Option<Instant> {
        let viewers = self.viewers.lock();
        (viewers.watching == 0).then(|| viewers.alone_since + grace)
    }
}

/// A client that watches a job.
pub struct Viewer {
    job: Arc<Job>,
}

impl Viewer {
    /// The job watched.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = self.job.viewers.lock();
        viewers.watching -= 1;
        viewers.alone_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::job;

    #[test]
    fn is_abandoned_a_grace_time_after_the_last_viewer_left() {
        let job = job(1);
        let grace = Duration::from_secs(10);
        assert_eq!(job.abandoned_at(grace), Some(job.created + grace));
        let (first, second) = (job.view().unwrap(), job.view().unwrap());
        drop(first);
        assert_eq!(job.abandoned_at(grace), None, "one viewer is left");
        let left = Instant::now();
        drop(second);
        assert!(job.abandoned_at(grace).unwrap() >= left + grace);
    }

    #[test]
    fn viewers_are_bounded_and_ids_differ() {
        let job = job(1);
        let viewers: Vec<_> = std::iter::from_fn(|| job.view()).collect();
        assert_eq!(viewers.len(), MAX_VIEWERS);
        drop(viewers);
        assert!(job.view().is_some());
        assert_ne!(job.id, crate::jobs::tests::job(1).id);
    }
}
