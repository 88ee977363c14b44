//! Threads that go through the same steps together, each with a band of an image.
//!
//! A decode has some thirty steps, each of a tenth of a millisecond or less, and each reads what the other bands wrote in the one
//! before. Waking a sleeping thread takes as long as a step, so members of a team wait for each other without sleeping, unless one is
//! late. No member is waited for before it has come: while others are busy, the members that are there take its bands.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pauses after which a waiting thread sleeps: about a hundred microseconds.
const PAUSES: usize = 5000;

/// The bands of an image and how far they are.
struct Team<'a, B> {
    bands: &'a [Mutex<B>],
    /// Of each band, the next step that has not begun.
    next: Vec<AtomicUsize>,
    /// Steps that are done, of all bands together.
    done: AtomicUsize,
    failed: AtomicBool,
    /// Members that sleep, and what wakes them.
    sleeping: AtomicUsize,
    sleep: Mutex<()>,
    woken: Condvar,
}

/// A thread of a team.
pub(super) struct Member<'a, B> {
    team: &'a Team<'a, B>,
    /// The band that it takes first, in every step: its maps are in the caches of the CPU's core.
    own: usize,
    step: usize,
}

/// What [`Member::each`] works on.
pub(super) struct Turn<'a, B> {
    /// The band.
    pub band: &'a mut B,
    /// Its number, from the top.
    pub number: usize,
    /// The step's number.
    pub step: usize,
}

/// Locks a value that no thread keeps locked for long.
pub(super) fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `steps` on as many threads as there are bands, if they are free. All must take the same steps, and steps must not use
/// rayon: a waiting thread could begin with another member's steps, and would then wait for its own.
pub(super) fn together<B: Send>(bands: &[Mutex<B>], steps: impl Fn(&mut Member<'_, B>) + Sync) {
    let next = bands.iter().map(|_| AtomicUsize::new(0)).collect();
    let team = &Team {
        bands,
        next,
        done: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        sleeping: AtomicUsize::new(0),
        sleep: Mutex::new(()),
        woken: Condvar::new(),
    };
    let run = |own| steps(&mut Member { team, own, step: 0 });
    #[cfg(not(target_arch = "wasm32"))]
    if bands.len() > 1 {
        let run = &run;
        return rayon::scope(|scope| {
            (1..bands.len()).for_each(|own| scope.spawn(move |_| run(own)));
            run(0);
        });
    }
    run(0);
}

impl<B> Member<'_, B> {
    /// A step: calls `work` once for each band, on one of the members, and returns when all of these calls have.
    pub fn each(&mut self, work: impl Fn(Turn<'_, B>)) {
        let (team, step) = (self.team, self.step);
        let count = team.bands.len();
        for turn in 0..count {
            let number = (self.own + turn) % count;
            let begin = |next: &AtomicUsize| {
                next.compare_exchange(step, step + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            };
            if begin(&team.next[number]) {
                let mut outcome = Outcome { team, done: false };
                work(Turn { band: &mut lock(&team.bands[number]), number, step });
                outcome.done = true;
            }
        }
        self.step += 1;
        team.wait(self.step * count);
    }
}

impl<B> Team<'_, B> {
    /// Waits until so many steps are done.
    ///
    /// # Panics
    /// If another member panics.
    fn wait(&self, steps: usize) {
        let over = || self.done.load(Ordering::SeqCst) >= steps || self.failed.load(Ordering::SeqCst);
        for _ in 0..PAUSES {
            if over() {
                break;
            }
            spin_loop();
        }
        if !over() {
            let mut asleep = lock(&self.sleep);
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            while !over() {
                asleep = self.woken.wait(asleep).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
        assert!(!self.failed.load(Ordering::SeqCst), "another thread of this image failed");
    }
}

/// Tells the other members when a step is done, or that its thread panics.
struct Outcome<'a, B> {
    team: &'a Team<'a, B>,
    done: bool,
}

impl<B> Drop for Outcome<'_, B> {
    fn drop(&mut self) {
        if self.done {
            self.team.done.fetch_add(1, Ordering::SeqCst);
        } else {
            self.team.failed.store(true, Ordering::SeqCst);
        }
        // A member that is about to sleep has counted itself, or sees the above.
        if self.team.sleeping.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.team.sleep));
            self.team.woken.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: usize) -> Vec<Mutex<Vec<usize>>> {
        (0..count).map(|_| Mutex::new(Vec::new())).collect()
    }

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
    }

    #[test]
    fn every_band_takes_every_step_once_and_in_order() {
        for (bands, threads) in [(1, 1), (2, 2), (3, 2), (5, 1), (4, 6)] {
            let steps = counts(bands);
            pool(threads).install(|| {
                together(&steps, |member| {
                    for step in 0..200 {
                        member.each(|turn| {
                            assert_eq!(turn.step, step);
                            turn.band.push(step);
                        });
                    }
                });
            });
            for band in steps {
                assert_eq!(*lock(&band), Vec::from_iter(0..200), "{bands} bands, {threads} threads");
            }
        }
    }

    #[test]
    fn a_step_begins_when_all_bands_have_taken_the_one_before() {
        let (bands, taken) = (counts(3), AtomicUsize::new(0));
        pool(3).install(|| {
            together(&bands, |member| {
                for step in 0..500 {
                    member.each(|_| {
                        assert!(taken.fetch_add(1, Ordering::SeqCst) >= 3 * step);
                    });
                }
            });
        });
        assert_eq!(taken.into_inner(), 1500);
    }

    #[test]
    fn more_teams_than_threads_finish() {
        let run = || {
            let bands = counts(2);
            together(&bands, |member| (0..50).for_each(|step| member.each(|turn| turn.band.push(step))));
            bands.iter().map(|band| lock(band).len()).sum::<usize>()
        };
        pool(2).scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|_| assert_eq!(run(), 100));
            }
        });
    }

    #[test]
    fn a_panic_on_one_thread_ends_the_others() {
        let bands = counts(2);
        let run = std::panic::AssertUnwindSafe(|| {
            pool(2).install(|| {
                together(&bands, |member| {
                    for step in 0..100 {
                        member.each(|turn| assert!((turn.number, step) != (1, 40), "on purpose"));
                    }
                });
            });
        });
        std::panic::catch_unwind(run).expect_err("the panic is passed on");
    }
}
