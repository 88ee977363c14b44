//! Stage 1 on the processor: forward and backward of the whole dVAE, written out by hand.
//!
//! [`Network`] lists the parameters, by the paths that they have in `dalle-model`. [`Update`] computes losses and gradients of a
//! batch.

mod backward;
mod forward;
mod memory;
mod network;
mod update;
mod weights;

pub use network::{Network, Parameter, Sizes};
pub use update::{Evaluation, Losses, Noise, Update};
