//! The sampling loop of the command line, the server, evaluation and the browser.
//!
//! A [`Batch`] advances any number of jobs together, one token per [`step`](Batch::step). Jobs join and leave between steps
//! (continuous batching). A job's tokens do not depend on the other jobs or their errors. What computes the logits is a [`Network`]:
//! `dalle-kernels` on the processor and in the browser, Burn elsewhere (`dalle_model::sample`).
//!
//! Architecture invariant: no Burn, no I/O. The crate builds for wasm32, so that a seed gives the same tokens in a browser as on a
//! server.
//!
//! ```
//! use dalle_kernels::prior::{PriorSizes, Sampler};
//! use dalle_kernels::storage::Storage;
//! use dalle_sampler::{Batch, JobKey, SampleRequest};
//! use dalle_shared::{SamplingSettings, TextToken};
//!
//! let sizes = PriorSizes {
//!     layers: 2, heads: 1, head: 16, conv_kernel: 3, text: 4, grid: 2, text_vocab: 9, image_vocab: 8,
//! };
//! let weights = |parameter: &dalle_kernels::parameters::Parameter| Ok::<_, ()>(vec![0.1; parameter.length()]);
//! let mut batch = Batch::new(Sampler::new(sizes, Storage::F32, weights).unwrap());
//! let request = SampleRequest {
//!     text: vec![TextToken(1), TextToken(2)],
//!     samples: 2,
//!     seed: 7,
//!     sampling: SamplingSettings::default(),
//!     prefix: Vec::new(),
//! };
//! batch.admit(JobKey(0), request)?;
//! let mut images = vec![Vec::new(); 2];
//! while !batch.is_empty() {
//!     for output in batch.step()? {
//!         // An error here concerns only this job.
//!         for (image, token) in images.iter_mut().zip(output.tokens?) {
//!             image.push(token);
//!         }
//!     }
//! }
//! assert!(images.iter().all(|image| image.len() == 4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod choose;
mod error;
mod jobs;
mod network;
mod philox;
mod request;
mod trace;

pub use batch::Batch;
pub use choose::choose;
pub use error::{NotFinite, SampleError};
pub use network::Network;
pub use philox::uniform;
pub use request::{JobKey, SampleRequest, StepOutput};
pub use trace::{Trace, choices};
