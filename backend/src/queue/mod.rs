//! The bounded queue of jobs that wait for the engine, first in, first out.
//!
//! A job that is cancelled while it waits frees its slot.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::jobs::Job;

/// The queue.
pub struct Queue {
    waiting: Mutex<VecDeque<Arc<Job>>>,
    capacity: usize,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity} slots of the queue are taken")]
pub struct QueueFull {
    /// Number of slots.
    pub capacity: usize,
}

impl Queue {
    /// An empty queue with `capacity` slots.
    pub fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), capacity }
    }

    /// Appends a job.
    ///
    /// # Errors
    /// [`QueueFull`] if every slot is taken by a job that still waits.
    pub fn push(&self, job: Arc<Job>) -> Result<(), QueueFull> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|job| job.log.ended().is_none());
        if waiting.len() >= self.capacity {
            return Err(QueueFull { capacity: self.capacity });
        }
        waiting.push_back(job);
        Ok(())
    }

    /// Takes the first job if it needs at most `rows` rows. A large job at the front blocks smaller ones after it, so that it is not
    /// starved.
    pub fn take(&self, rows: usize) -> Option<Arc<Job>> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|job| job.log.ended().is_none());
        if waiting.front()?.request.rows() > rows {
            return None;
        }
        waiting.pop_front()
    }

    /// Number of rows that the first job needs.
    pub fn first_rows(&self) -> Option<usize> {
        let waiting = self.waiting.lock();
        waiting.iter().find(|job| job.log.ended().is_none()).map(|job| job.request.rows())
    }

    /// Number of jobs that wait before this one; None if it does not wait.
    pub fn before(&self, id: &str) -> Option<usize> {
        let waiting = self.waiting.lock();
        waiting.iter().filter(|job| job.log.ended().is_none()).position(|job| job.id == id)
    }

    /// Number of waiting jobs.
    pub fn len(&self) -> usize {
        self.waiting.lock().iter().filter(|job| job.log.ended().is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::job;

    #[test]
    fn is_bounded_and_in_order() {
        let queue = Queue::new(2);
        let (first, second) = (job(1), job(2));
        queue.push(first.clone()).unwrap();
        queue.push(second.clone()).unwrap();
        assert_eq!(queue.push(job(1)), Err(QueueFull { capacity: 2 }));
        assert_eq!([&first, &second].map(|job| queue.before(&job.id)), [Some(0), Some(1)]);
        assert_eq!(queue.take(9).unwrap().id, first.id);
        assert_eq!([&first, &second].map(|job| queue.before(&job.id)), [None, Some(0)]);
        assert_eq!(queue.first_rows(), Some(2));
        assert!(queue.take(1).is_none(), "two samples do not fit into one row");
        assert_eq!(queue.take(2).unwrap().id, second.id);
        assert!(queue.take(9).is_none());
    }

    #[test]
    fn a_cancelled_job_gives_up_its_place() {
        let queue = Queue::new(1);
        let cancelled = job(1);
        queue.push(cancelled.clone()).unwrap();
        cancelled.cancel();
        assert_eq!(queue.len(), 0);
        let next = job(1);
        queue.push(next.clone()).unwrap();
        assert_eq!(queue.take(9).unwrap().id, next.id);
    }
}
