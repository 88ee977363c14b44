//! Computes Retry-After for requests that a full queue refuses: when there should be room for this client.
//!
//! Clients that are refused at the same time compete for the same slots. So each gets a later time than those refused before it, at
//! the rate at which the engine processes the queue, plus jitter.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum and maximum in seconds.
const BOUNDS: (f64, f64) = (1.0, 600.0);
/// Maximum time reserved for clients refused before, because some of them will not try again.
const MOST_AHEAD: Duration = Duration::from_secs(60);
/// Maximum jitter, as a share of the time.
const JITTER: f64 = 0.25;

/// When the clients refused so far should have been admitted.
#[derive(Default)]
pub struct RetryAfter {
    turns_end: Mutex<Option<Instant>>,
}

/// The load that Retry-After is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Time until a slot of the queue is free.
    pub next_place: Duration,
    /// Mean time in which the engine processes one row of the queue; zero if nothing has been measured yet.
    pub row: Duration,
    /// Number of rows of the refused request.
    pub rows: usize,
}

impl RetryAfter {
    /// Whole seconds after which a client that is refused now should retry. `chance` is uniform on `[0, 1)`.
    pub fn advise(&self, now: Instant, load: Load, chance: f64) -> u64 {
        let mut turns_end = self.turns_end.lock();
        let ahead =
            turns_end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now)).min(MOST_AHEAD);
        *turns_end = Some(now + ahead + load.row.mul_f64(load.rows as f64).min(MOST_AHEAD));
        let seconds = (load.next_place + ahead).as_secs_f64() * (1.0 + JITTER * chance);
        seconds.clamp(BOUNDS.0, BOUNDS.1).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn retry_after_is_the_time_until_the_next_place_clamped() {
        let advise = |next_place, chance| {
            let load = Load { next_place, row: SECOND, rows: 2 };
            RetryAfter::default().advise(Instant::now(), load, chance)
        };
        assert_eq!(advise(Duration::ZERO, 0.0), 1, "nothing measured yet");
        assert_eq!(advise(10 * SECOND, 0.0), 10);
        assert_eq!(advise(10 * SECOND, 0.99), 13, "jitter adds up to a quarter");
        assert_eq!(advise(10_000 * SECOND, 0.0), 600);
    }

    #[test]
    fn clients_refused_together_get_different_times() {
        let (retry, now) = (RetryAfter::default(), Instant::now());
        let load = Load { next_place: SECOND, row: SECOND, rows: 3 };
        let advice: Vec<u64> = (0..4).map(|_| retry.advise(now, load, 0.0)).collect();
        assert_eq!(advice, [1, 4, 7, 10]);
        assert_eq!(retry.advise(now + 12 * SECOND, load, 0.0), 1, "they have had their turns");
        let last = (0..1000).map(|_| retry.advise(now + 12 * SECOND, load, 0.0)).max();
        assert_eq!(last, Some(61), "a flood of requests does not delay others without limit");
    }

    /// 200 concurrent clients, 16 slots, and jobs of a third of a second: Retry-After determines the number of tries.
    #[test]
    fn clients_that_honour_retry_after_need_few_tries() {
        let start = Instant::now();
        let retry = RetryAfter::default();
        let job = SECOND / 3;
        let load = Load { next_place: job / 2, row: job / 9, rows: 9 };
        let mut tries = [0; 200];
        let mut ends: Vec<Instant> = Vec::new();
        let mut due: BinaryHeap<_> = (0..tries.len()).map(|client| Reverse((start, client))).collect();
        while let Some(Reverse((now, client))) = due.pop() {
            tries[client] += 1;
            let waiting = ends.iter().filter(|end| **end > now).count();
            if waiting <= 16 {
                ends.push(ends.last().map_or(now, |last| now.max(*last)) + job);
            } else {
                let chance = client as f64 / tries.len() as f64;
                let advice = Duration::from_secs(retry.advise(now, load, chance));
                due.push(Reverse((now + advice, client)));
            }
        }
        tries.sort_unstable();
        assert!(tries[100] <= 3 && tries[199] <= 6, "median {}, most {}", tries[100], tries[199]);
    }
}
