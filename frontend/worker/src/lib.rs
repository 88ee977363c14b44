//! What the page's worker programs share. They run in Web Workers, so that the page stays responsive.
//!
//! Two programs decode tokens to pixels, and encode a person's images to tokens, so that they stay on their machine.
//! `dalle-decoder-cpu` is small and starts first; `dalle-decoder-webgpu` is loaded where the browser has a GPU. Each implements
//! [`Program`] and calls [`run`], which does everything else. A third, `dalle-prior-cpu`, samples without a server; it uses
//! [`download`] and [`port`]. `static/worker.js` downloads the program that the page asks for, probes the WebGPU adapter and calls
//! the program's `run` with the page's first message. Only [`probe`] builds natively, for its tests.

#[cfg(target_arch = "wasm32")]
mod cache;
#[cfg(target_arch = "wasm32")]
pub mod download;
#[cfg(target_arch = "wasm32")]
mod encoding;
#[cfg(target_arch = "wasm32")]
mod failure;
#[cfg(target_arch = "wasm32")]
mod image;
#[cfg(target_arch = "wasm32")]
mod loading;
#[cfg(target_arch = "wasm32")]
pub mod port;
pub mod probe;
#[cfg(target_arch = "wasm32")]
mod program;
#[cfg(target_arch = "wasm32")]
mod serving;

#[cfg(target_arch = "wasm32")]
pub use failure::{Failure, set_on_gpu};
#[cfg(target_arch = "wasm32")]
pub use program::Program;
#[cfg(target_arch = "wasm32")]
pub use serving::run;
