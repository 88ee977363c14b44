//! Stage 2 on the CPU: losses and gradients of the prior, forward and backward written out by hand, and sampling.
//!
//! [`PriorNetwork`] lists the parameters, by the paths that they have in `dalle-model`. [`PriorUpdate`] computes a batch of training,
//! [`Sampler`] the logits of the next image tokens.

#[cfg(not(target_arch = "wasm32"))]
mod groups;
#[cfg(not(target_arch = "wasm32"))]
mod memory;
#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "training reads where parameters begin, and is native")
)]
mod network;
#[cfg(not(target_arch = "wasm32"))]
mod pair;
#[cfg(not(target_arch = "wasm32"))]
mod pass;
mod pattern;
mod sampling;
#[cfg(not(target_arch = "wasm32"))]
mod update;
#[cfg(not(target_arch = "wasm32"))]
mod weights;

pub use network::{PriorNetwork, PriorSizes};
#[cfg(not(target_arch = "wasm32"))]
pub use pair::Pair;
pub use pattern::Pattern;
pub use sampling::{AttentionWeights, Cache, Sampler};
#[cfg(not(target_arch = "wasm32"))]
pub use update::{PriorLosses, PriorUpdate, ScoredTokens};
