//! Transformer layers on the CPU, forward and backward, for the prior and for CLIP's towers.
//!
//! [`layers`] says where parameters are, [`weights`] packs the matrices, and [`pass`] runs a stack of blocks over the rows of one
//! stream. [`attention`] computes attention of queries in groups that see the same keys.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod attention;
#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "training reads where parameters begin, and is native")
)]
pub(crate) mod layers;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod pass;
pub(crate) mod product;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod weights;
