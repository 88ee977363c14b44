//! A single rank.

use crate::transport::{Header, Transport, Waiting};
use crate::{Failure, Layout};

/// A rank that is alone: carries everything to where it came from.
#[derive(Debug)]
pub struct Alone(Layout);

impl Alone {
    /// Rank 0 of 1.
    #[must_use]
    pub fn new() -> Self {
        Self(Layout::contiguous(0, 1, 1))
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

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
