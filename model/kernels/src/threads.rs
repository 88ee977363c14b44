//! Threads, where there are any and the work is worth them: rayon's natively, none in wasm.

/// Multiplications from which on work is shared: some ten microseconds of one thread, several times what sharing costs.
#[cfg(not(target_arch = "wasm32"))]
const WORTH: usize = 1 << 18;

/// Whether work may be shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    #[cfg(not(target_arch = "wasm32"))]
    shared: bool,
}

impl Threads {
    /// Calls `run`, in which work that is worth it is shared between threads. `largest` is the largest piece of work in it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn enter<T: Send>(largest: usize, run: impl FnOnce(Self) -> T + Send) -> T {
        if largest < WORTH || rayon::current_num_threads() == 1 {
            return run(Self { shared: false });
        }
        // On one of rayon's threads, sharing wakes none that is still spinning.
        rayon::scope(|_| run(Self { shared: true }))
    }

    /// Calls `run`.
    #[cfg(target_arch = "wasm32")]
    pub fn enter<T>(_: usize, run: impl FnOnce(Self) -> T) -> T {
        run(Self {})
    }

    /// Work that is not shared.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn alone() -> Self {
        Self { shared: false }
    }

    /// How many of `count` rows a thread computes at once: whole multiples of `unit`, and two pieces for each thread.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn piece(self, count: usize, unit: usize) -> usize {
        let pieces = if self.shared { 2 * rayon::current_num_threads() } else { 1 };
        count.div_ceil(pieces).next_multiple_of(unit).max(unit)
    }

    /// Calls `compute` for slices of `y` that are whole multiples of `unit`, with the number of units before each. `work` is the
    /// number of multiplications.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn slices(self, y: &mut [f32], unit: usize, work: usize, compute: impl Fn(usize, &mut [f32]) + Sync) {
        use rayon::prelude::*;

        if self.shared && work >= WORTH {
            y.par_chunks_mut(unit).enumerate().for_each(|(index, y)| compute(index, y));
        } else {
            compute(0, y);
        }
    }

    /// Calls `compute` for all of `y`.
    #[cfg(target_arch = "wasm32")]
    pub fn slices(self, y: &mut [f32], _unit: usize, _work: usize, compute: impl Fn(usize, &mut [f32])) {
        compute(0, y);
    }

    /// Calls `compute` for each task. `work` is the number of multiplications in all.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn each<T: Send>(self, tasks: Vec<T>, work: usize, compute: impl Fn(T) + Sync + Send) {
        use rayon::prelude::*;

        if self.shared && work >= WORTH {
            tasks.into_par_iter().for_each(compute);
        } else {
            tasks.into_iter().for_each(compute);
        }
    }

    /// Calls `compute` for each task.
    #[cfg(target_arch = "wasm32")]
    pub fn each<T>(self, tasks: Vec<T>, _work: usize, compute: impl Fn(T)) {
        tasks.into_iter().for_each(compute);
    }
}
