//! The prior program: samples images in the browser, so that no server is needed.
//!
//! It runs in a Web Worker of its own, beside the decoder's, and is loaded when the first image is asked for. `static/worker.js`
//! calls `run` with the page's first message; the page then sends [`dalle_shared::PriorCommand`]s and receives
//! [`dalle_shared::PriorReport`]s. The sampling loop is the server's (`dalle-sampler`), so that a seed gives the same tokens. It is
//! built twice, with and without relaxed SIMD. Only [`recorder`] builds natively, for its tests.

#[cfg(target_arch = "wasm32")]
mod loading;
#[cfg(target_arch = "wasm32")]
mod pause;
pub mod recorder;
#[cfg(target_arch = "wasm32")]
mod serving;
#[cfg(target_arch = "wasm32")]
mod tracing;

/// Runs the worker until the page ends it. `first` is the JSON of the page's [`dalle_shared::PriorCommand::Load`].
#[cfg(target_arch = "wasm32")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub async fn run(first: String) {
    serving::run(&first).await;
}
