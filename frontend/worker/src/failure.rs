//! Failures reported to the page.

use std::sync::atomic::{AtomicBool, Ordering};

use dalle_shared::WorkerFailure;

/// Whether the networks run on WebGPU.
static ON_GPU: AtomicBool = AtomicBool::new(false);

/// A failure that ends the worker.
#[derive(Debug)]
pub struct Failure {
    /// The kind of failure, from which the page derives the remedy.
    pub reason: WorkerFailure,
    /// What happened, as a clause.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(reason: WorkerFailure, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A failure of a running network: of the GPU if it runs there, else a fault of the program.
    pub fn of_running(message: impl Into<String>) -> Self {
        Self::new(running(), message)
    }

    /// A panic with this message.
    pub fn of_panic(message: String) -> Self {
        let out_of_memory = message.to_lowercase().contains("memory");
        Self::new(if out_of_memory { WorkerFailure::Memory } else { running() }, message)
    }
}

/// Notes that the networks run on WebGPU from now on.
pub fn set_on_gpu() {
    ON_GPU.store(true, Ordering::Relaxed);
}

fn running() -> WorkerFailure {
    if ON_GPU.load(Ordering::Relaxed) { WorkerFailure::Gpu } else { WorkerFailure::Fault }
}
