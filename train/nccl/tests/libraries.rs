//! What happens where the libraries of NVIDIA are missing: on most machines that run tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dalle_comm::{Communicator, Failure, Header, Layout, Options, Transport, Waiting};
use dalle_nccl::Nccl;

/// A rank that is alone.
struct Alone(Layout);

impl Transport for Alone {
    fn layout(&self) -> &Layout {
        &self.0
    }

    fn exchange(&mut self, _: &Waiting, own: Header) -> Result<Vec<Header>, Failure> {
        Ok(vec![own])
    }

    fn all_to_all(&mut self, _: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        received.copy_from_slice(sent);
        Ok(())
    }

    fn all_gather(&mut self, _: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure> {
        received.copy_from_slice(sent);
        Ok(())
    }

    fn broadcast(&mut self, _: &Waiting, _: usize, _: &mut [u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn finish(&mut self, _: &[Waiting; 3], own: Header) -> Result<[Vec<Header>; 3], Failure> {
        Ok([vec![own], vec![own], vec![own]])
    }

    fn abandon(&mut self, failure: Failure) -> Failure {
        failure
    }
}

#[test]
fn a_rank_without_the_libraries_or_the_gpu_fails_with_a_message() {
    let start = || {
        let below = Box::new(Alone(Layout::contiguous(0, 1, 1)));
        // No machine has as many GPUs.
        Ok(Box::new(Nccl::over(below, 10_000)?) as Box<dyn Transport>)
    };
    let message = Communicator::start(start, &Options::default()).err().unwrap().to_string();
    assert!(message.starts_with("rank 0 failed: "), "{message}");
    let named = ["libcuda.so", "libnccl.so", "cuda:10000"].iter().any(|name| message.contains(name));
    assert!(named, "{message}");
}
