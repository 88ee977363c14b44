//! The jobs that the server knows: waiting and running ones, and for a while those that have ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dalle_shared::EventKind;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::Job;

/// Minimum time between two sweeps.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits on how long jobs are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// An unfinished job without viewers is cancelled after this time.
    pub grace: Duration,
    /// The log of an ended job can be read for this long, …
    pub age: Duration,
    /// … unless all jobs together exceed this many bytes: then the oldest ended ones are forgotten.
    pub bytes: usize,
}

/// All jobs by id.
pub struct Registry {
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    retention: Retention,
    /// Holds a token for each job whose log has not ended.
    unfinished: TaskTracker,
    inserted: Notify,
    /// Bytes of all jobs.
    memory: Arc<AtomicUsize>,
}

impl Registry {
    /// An empty registry.
    pub fn new(retention: Retention) -> Self {
        Self {
            jobs: Mutex::default(),
            retention,
            unfinished: TaskTracker::new(),
            inserted: Notify::new(),
            memory: Arc::default(),
        }
    }

    /// The counter of all jobs' memory.
    pub fn memory(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.memory)
    }

    /// Adds a job, and forgets the oldest ended ones if all jobs exceed the byte limit.
    pub fn insert(&self, job: Arc<Job>) {
        job.log.hold_until_end(self.unfinished.token());
        let mut jobs = self.jobs.lock();
        jobs.insert(job.id.clone(), job);
        if self.memory.load(Ordering::Relaxed) > self.retention.bytes {
            self.shrink(&mut jobs);
        }
        self.inserted.notify_one();
    }

    /// Forgets the oldest ended jobs until the others take seven eighths of the limit, so that not every insertion has to.
    fn shrink(&self, jobs: &mut HashMap<String, Arc<Job>>) {
        let mut ended: Vec<(Instant, String, usize)> = jobs
            .values()
            .filter_map(|job| Some((job.log.ended()?, job.id.clone(), job.log.bytes())))
            .collect();
        ended.sort_unstable();
        // A viewer may keep a job alive beyond this, so its bytes are counted here.
        let mut held = self.memory.load(Ordering::Relaxed);
        for (_, id, bytes) in ended {
            if held <= self.retention.bytes / 8 * 7 {
                break;
            }
            jobs.remove(&id);
            held = held.saturating_sub(bytes);
        }
    }

    /// The job with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs.lock().get(id).cloned()
    }

    /// Sweeps when a job may have expired. Never returns.
    pub async fn expire(&self) -> Infallible {
        loop {
            match self.sweep(Instant::now()) {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => self.inserted.notified().await,
            }
        }
    }

    /// Cancels abandoned jobs and forgets old ones. Returns the time of the next sweep, or None if there are no jobs.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let Retention { grace, age, .. } = self.retention;
        // The grace time of a viewer that leaves, or a job that is created, after this sweep ends later than this.
        let mut next = now + grace;
        let mut jobs = self.jobs.lock();
        jobs.retain(|_, job| {
            let Some(ended) = job.log.ended() else {
                match job.abandoned_at(grace) {
                    Some(at) if at <= now => {
                        tracing::info!(job = job.key.0, "cancelled: no client is watching");
                        job.cancel();
                    }
                    Some(at) => next = next.min(at),
                    None => {}
                }
                return true;
            };
            next = next.min(ended + age);
            ended + age > now
        });
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
    use dalle_shared::{GenerationState, ImageToken};

    use super::*;
    use crate::jobs::tests::{job, job_of};

    const RETENTION: Retention =
        Retention { grace: Duration::from_secs(10), age: Duration::from_secs(60), bytes: 100_000 };

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
            "when the grace time is over"
        );
        registry.sweep(now + Duration::from_secs(11));
        assert_eq!(alone.log.state(), GenerationState::Cancelled);
        assert_eq!(watched.log.state(), GenerationState::Queued);
        assert_eq!(registry.unfinished.len(), 1);
    }

    #[test]
    fn polling_the_state_keeps_a_job_alive_as_a_viewer_does() {
        let registry = Registry::new(Retention { grace: Duration::from_millis(50), ..RETENTION });
        let polled = job(1);
        registry.insert(polled.clone());
        std::thread::sleep(Duration::from_millis(60));
        polled.touch();
        registry.sweep(Instant::now());
        assert_eq!(polled.log.state(), GenerationState::Queued);
        registry.sweep(Instant::now() + Duration::from_millis(60));
        assert_eq!(polled.log.state(), GenerationState::Cancelled);
    }

    #[test]
    fn forgets_ended_jobs_by_age() {
        let registry = Registry::new(RETENTION);
        let jobs: Vec<_> = (0..300).map(|_| job(1)).collect();
        for job in &jobs {
            registry.insert(job.clone());
            job.cancel();
        }
        let known = || jobs.iter().filter(|job| registry.get(&job.id).is_some()).count();
        registry.sweep(Instant::now() + Duration::from_secs(59));
        assert_eq!(known(), 300, "their number is not limited");
        assert_eq!(
            registry.sweep(Instant::now() + Duration::from_secs(61)),
            None,
            "no job is left to expire"
        );
        assert_eq!(known(), 0);
    }

    #[test]
    fn forgets_the_oldest_ended_jobs_when_all_jobs_exceed_the_byte_limit() {
        let registry = Registry::new(RETENTION);
        let running = job_of(&registry);
        registry.insert(running.clone());
        let mut ids = Vec::new();
        for _ in 0..50 {
            let job = job_of(&registry);
            job.log.append(EventKind::Tokens { start: 0, tokens: vec![vec![ImageToken(0); 2048]] });
            job.cancel();
            ids.push(job.id.clone());
            registry.insert(job);
            assert!(
                registry.memory.load(Ordering::Relaxed) <= RETENTION.bytes,
                "the bound holds at any time"
            );
        }
        let known: Vec<bool> = ids.iter().map(|id| registry.get(id).is_some()).collect();
        let forgotten = known.iter().filter(|known| !**known).count();
        assert!((26..=35).contains(&forgotten), "{forgotten} of 50 with 4 KiB each");
        assert!(known[..forgotten].iter().all(|known| !known), "the oldest");
        assert!(registry.get(&running.id).is_some(), "a running job is never forgotten");
        assert_eq!(running.log.state(), GenerationState::Queued);
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
