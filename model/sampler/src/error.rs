//! Errors of sampling.

use dalle_shared::RequestError;

/// NaN or infinite logits: the weights are damaged, or the prior overflows on this job's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prior produced NaN or infinite logits at position {position}; its weights are damaged, or it overflows (in 16 bits, \
     try --dtype f32)"
)]
pub struct NotFinite {
    /// Raster position; in caption sampling, the index of the id.
    pub position: usize,
}

/// A request that does not fit the model, or a failed device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A field of the request is out of range.
    #[error("{0}")]
    Request(String),
    /// The device could not compute, or its memory could not be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// Caption sampling produced NaN or infinite logits.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

impl From<RequestError> for SampleError {
    fn from(error: RequestError) -> Self {
        Self::Request(error.to_string())
    }
}
