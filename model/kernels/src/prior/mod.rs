//! Stage 2 on the processor: losses and gradients of the prior, forward and backward written out by hand.
//!
//! [`Network`] lists the parameters, by the paths that they have in `dalle-model`. [`Update`] computes a batch.

mod attention;
mod memory;
mod network;
mod pass;
mod pattern;
mod product;
mod update;
mod weights;

pub use network::{Network, Sizes};
pub use pattern::Pattern;
pub use update::{Losses, Pair, Update};
