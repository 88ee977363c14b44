//! CLIP on the CPU: features of captions and images, and their gradients.
//!
//! [`ClipNetwork`] lists the parameters, by the paths that they have in `dalle-model`. [`ClipUpdate`] computes the features of a batch
//! and, from the gradients of a loss with respect to them, those of the parameters. The loss itself, a few values for each pair, is
//! the caller's.

mod image;
mod network;
mod text;
mod tower;
mod update;

pub use network::{ClipNetwork, ClipSizes, TowerSizes};
pub use update::{ClipPair, ClipUpdate};
