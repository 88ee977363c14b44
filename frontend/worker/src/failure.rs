//! Failures reported to the page.

use std::sync::atomic::{AtomicBool, Ordering};

use dalle_shared::DecoderFailure;

/// Whether the networks run on WebGPU.
static ON_GPU: AtomicBool = AtomicBool::new(false);

/// A failure that ends the worker.
#[derive(Debug)]
pub struct Failure {
    /// The kind of failure, from which the page derives the remedy.
    pub reason: DecoderFailure,
    /// What happened, as a clause.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(reason: DecoderFailure, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A failure of a running network: of the GPU if it runs there, else a fault of the program.
    pub fn of_running(message: impl Into<String>) -> Self {
        Self::new(running(), message)
    }

    /// A panic with this message.
    pub fn of_panic(message: String) -> Self {
        let out_of_memory = message.to_lowercase().contains("memory");
        Self::new(if out_of_memory { DecoderFailure::Memory } else { running() }, message)
    }
}

/// Notes that the networks run on WebGPU from now on.
pub fn set_on_gpu() {
    ON_GPU.store(true, Ordering::Relaxed);
}

fn running() -> DecoderFailure {
    if ON_GPU.load(Ordering::Relaxed) { DecoderFailure::Gpu } else { DecoderFailure::Fault }
}
