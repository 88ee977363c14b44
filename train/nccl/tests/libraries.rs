//! What happens where the libraries of NVIDIA are missing: on most machines that run tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dalle_comm::{Alone, Communicator, Options, Transport};
use dalle_nccl::Nccl;

#[test]
fn a_rank_without_the_libraries_or_the_gpu_fails_with_a_message() {
    let start = || {
        let below = Box::new(Alone::new());
        // No machine has as many GPUs.
        Ok(Box::new(Nccl::over(below, 10_000)?) as Box<dyn Transport>)
    };
    let message = Communicator::start(start, &Options::default()).err().unwrap().to_string();
    assert!(message.starts_with("rank 0 failed: "), "{message}");
    let named = ["libcuda.so", "libnccl.so", "cuda:10000"].iter().any(|name| message.contains(name));
    assert!(named, "{message}");
}
