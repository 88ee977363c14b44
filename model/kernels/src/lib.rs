//! The dVAE's arithmetic for the processor: convolutions, their gradients, and what lies between, on slices of `f32`.
//!
//! [`dvae`] is the way in: losses and gradients of a batch. The modules below it hold one kernel each, a struct that
//! [`simd::Processor::run`] compiles for the vectors at hand. Maps lie in memory as [`grid`] says.
//!
//! No I/O, no unsafe code. Threads only where a batch is trained on, through rayon; results do not depend on their number.

#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "arrays of vectors stay in registers only where constants index them; kernels have many operands"
)]

pub mod adamw;
pub mod codes;
pub mod dvae;
pub mod finish;
pub mod gradient;
pub mod grid;
pub mod laplace;
pub mod matrix;
pub mod outer;
pub mod parameters;
pub mod pointwise;
#[cfg(not(target_arch = "wasm32"))]
pub mod prior;
pub mod resize;
pub mod rows;
pub mod simd;
pub mod stem;
#[cfg(not(target_arch = "wasm32"))]
mod sums;
pub mod winograd;
