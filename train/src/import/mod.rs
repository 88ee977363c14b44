//! Models that others released, as this project's model folders. Files from elsewhere are data: nothing in them is executed.

mod checkpoint;
mod openai_dvae;
mod pickle;

pub use checkpoint::{Array, CheckpointError};
pub use openai_dvae::import as import_openai_dvae;
pub use pickle::PickleError;
