//! The arithmetic of the dVAE, the prior and CLIP on CPUs, on slices of `f32`: forward and backward passes, and sampling.
//!
//! Start at [`dvae`], [`prior`] or `clip`, which compute gradients of a batch; [`prior`] also samples. The other modules contain one
//! kernel each, a struct that [`simd::Processor::run`] compiles for the CPU's vector instructions. [`grid`] describes the memory layout
//! of maps, [`skinny`] that of a few rows.
//!
//! There is no I/O and no unsafe code. Only training and sampling use threads, natively, through rayon. Results do not depend on their
//! number.

#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "arrays of vectors stay in registers only where constants index them; kernels have many operands"
)]

pub mod adamw;
#[cfg(not(target_arch = "wasm32"))]
pub mod clip;
pub mod codes;
pub mod conv_kernel;
pub mod dvae;
pub mod finish;
pub mod formats;
pub mod gradient;
pub mod grid;
pub mod laplace;
pub mod matrix;
pub mod outer;
pub mod parameters;
pub mod pointwise;
pub mod prior;
pub mod resize;
pub mod rows;
pub mod simd;
pub mod skinny;
pub mod stem;
pub mod storage;
#[cfg(not(target_arch = "wasm32"))]
pub mod sums;
mod threads;
mod transformer;
pub mod winograd;
