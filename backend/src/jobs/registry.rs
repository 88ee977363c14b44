//! The jobs the server knows: those that wait or run, and for a while those that have ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalle_shared::EventKind;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::Job;

/// Least time between two sweeps.
const PAUSE: Duration = Duration::from_millis(100);

/// How long jobs live.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// An unfinished job that nobody watches is cancelled after this time.
    pub grace: Duration,
    /// An ended job's log can be read for this long …
    pub age: Duration,
    /// … but at most this many ended jobs are kept.
    pub count: usize,
}

/// See the module.
pub struct Registry {
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    retention: Retention,
    /// Has a token for each job whose log has not ended.
    unfinished: TaskTracker,
    inserted: Notify,
}

impl Registry {
    /// Knows no job.
    pub fn new(retention: Retention) -> Self {
        Self { jobs: Mutex::default(), retention, unfinished: TaskTracker::new(), inserted: Notify::new() }
    }

    /// Adds a job.
    pub fn insert(&self, job: Arc<Job>) {
        job.log.hold_until_end(self.unfinished.token());
        self.jobs.lock().insert(job.id.clone(), job);
        self.inserted.notify_one();
    }

    /// The job with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs.lock().get(id).cloned()
    }

    /// Sweeps whenever a job may have expired, for ever.
    pub async fn expire(&self) -> Infallible {
        loop {
            match self.sweep(Instant::now()) {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => self.inserted.notified().await,
            }
        }
    }

    /// Cancels abandoned jobs and forgets ended ones that are too old or too many. Returns the time of the next sweep, unless
    /// there is no job.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let Retention { grace, age, count } = self.retention;
        let mut jobs = self.jobs.lock();
        // A viewer that leaves, or a job that is made, after this sweep has its grace time.
        let mut next = now + grace;
        let mut ended: Vec<(Instant, String)> = Vec::new();
        for job in jobs.values() {
            if let Some(at) = job.log.ended() {
                ended.push((at, job.id.clone()));
            } else if let Some(abandoned) = job.abandoned_at(grace) {
                if abandoned < now {
                    tracing::info!(job = job.key.0, "cancelled: no client is watching");
                    job.cancel();
                } else {
                    next = next.min(abandoned);
                }
            }
        }
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(count);
        for (index, (at, id)) in ended.iter().enumerate() {
            if index < surplus || now.saturating_duration_since(*at) > age {
                jobs.remove(id);
            } else {
                next = next.min(*at + age);
            }
        }
        (!jobs.is_empty()).then(|| next.max(now + PAUSE))
    }

    /// Waits until every log has ended.
    pub async fn all_ended(&self) {
        self.unfinished.close();
        self.unfinished.wait().await;
    }

    /// Ends every job that has not started with this event.
    pub fn end_waiting(&self, event: &EventKind) {
        for job in self.jobs.lock().values().filter(|job| job.log.len() == 0) {
            job.log.append(event.clone());
        }
    }

    /// Ends every unfinished job with this event.
    pub fn end_all(&self, event: &EventKind) {
        for job in self.jobs.lock().values() {
            job.log.append(event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::GenerationState;

    use super::*;
    use crate::jobs::tests::job;

    const RETENTION: Retention =
        Retention { grace: Duration::from_secs(10), age: Duration::from_secs(60), count: 2 };

    #[test]
    fn cancels_the_abandoned_and_keeps_the_watched() {
        let registry = Registry::new(RETENTION);
        let (watched, alone) = (job(1), job(1));
        let _viewer = watched.view().unwrap();
        registry.insert(watched.clone());
        registry.insert(alone.clone());
        let now = Instant::now();
        let next = registry.sweep(now).unwrap();
        assert_eq!(registry.unfinished.len(), 2);
        assert!(
            next > now + Duration::from_secs(9) && next <= now + RETENTION.grace,
            "when the grace is over"
        );
        registry.sweep(now + Duration::from_secs(11));
        assert_eq!(alone.log.state(), GenerationState::Cancelled);
        assert_eq!(watched.log.state(), GenerationState::Queued);
        assert_eq!(registry.unfinished.len(), 1);
    }

    #[test]
    fn forgets_by_age_and_by_count_oldest_first() {
        let registry = Registry::new(RETENTION);
        let jobs: Vec<_> = (0..3).map(|_| job(1)).collect();
        for job in &jobs {
            registry.insert(job.clone());
            job.cancel();
        }
        registry.sweep(Instant::now());
        let known = || jobs.iter().map(|job| registry.get(&job.id).is_some()).collect::<Vec<_>>();
        assert_eq!(known(), [false, true, true]);
        registry.sweep(Instant::now() + Duration::from_secs(61));
        assert_eq!(known(), [false; 3]);
        assert_eq!(registry.sweep(Instant::now()), None, "nothing is left to expire");
    }

    #[tokio::test]
    async fn waits_until_every_log_has_ended_however_it_ends() {
        let registry = Registry::new(RETENTION);
        let jobs: Vec<_> = (0..3).map(|_| job(1)).collect();
        jobs[2].cancel();
        jobs.iter().for_each(|job| registry.insert(job.clone()));
        let mut waiting = std::pin::pin!(registry.all_ended());
        for kind in [EventKind::Finished { seconds: 1.0 }, EventKind::Cancelled] {
            let soon = tokio::time::timeout(Duration::from_millis(10), waiting.as_mut()).await;
            assert!(soon.is_err(), "one has not ended");
            let running = jobs.iter().find(|job| job.log.ended().is_none()).unwrap();
            running.log.append(kind);
        }
        waiting.await;
    }

    #[test]
    fn ends_only_what_has_not_ended() {
        let registry = Registry::new(RETENTION);
        let (done, running) = (job(1), job(1));
        done.log.append(EventKind::Finished { seconds: 1.0 });
        registry.insert(done.clone());
        registry.insert(running.clone());
        registry.end_all(&EventKind::Cancelled);
        assert_eq!(done.log.state(), GenerationState::Finished);
        assert_eq!(running.log.state(), GenerationState::Cancelled);
    }
}
