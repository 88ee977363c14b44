//! The jobs the server knows: those that wait or run, and for a while those that have ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dalle_shared::EventKind;
use parking_lot::Mutex;

use super::Job;

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
}

impl Registry {
    /// Knows no job.
    pub fn new(retention: Retention) -> Self {
        Self { jobs: Mutex::default(), retention }
    }

    /// Adds a job.
    pub fn insert(&self, job: Arc<Job>) {
        self.jobs.lock().insert(job.id.clone(), job);
    }

    /// The job with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs.lock().get(id).cloned()
    }

    /// Cancels abandoned jobs and forgets ended ones that are too old or too many.
    pub fn sweep(&self, now: Instant) {
        let mut jobs = self.jobs.lock();
        for job in jobs.values() {
            if job.log.ended().is_none() && job.is_abandoned(now, self.retention.grace) {
                tracing::info!(job = %job.id, "cancelled: nobody is watching");
                job.cancel();
            }
        }
        let mut ended: Vec<(Instant, String)> =
            jobs.values().filter_map(|job| Some((job.log.ended()?, job.id.clone()))).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(self.retention.count);
        for (index, (at, id)) in ended.iter().enumerate() {
            if index < surplus || now.saturating_duration_since(*at) > self.retention.age {
                jobs.remove(id);
            }
        }
    }

    /// Jobs that wait or run.
    pub fn unfinished(&self) -> usize {
        self.jobs.lock().values().filter(|job| job.log.ended().is_none()).count()
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
        registry.sweep(Instant::now());
        assert_eq!(registry.unfinished(), 2);
        registry.sweep(Instant::now() + Duration::from_secs(11));
        assert_eq!(alone.log.state(), GenerationState::Cancelled);
        assert_eq!(watched.log.state(), GenerationState::Queued);
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
