//! Errors of generations and of the engine.

use dalle_model::clip::ScoreError;
use dalle_model::dvae::DecodeError;
use dalle_model::sample::{JobKey, NotFinite, SampleError};
use dalle_shared::{ApiError, ErrorCode};

use super::sampler::EncodeError;
use crate::error_response::{ErrorResponse, log_id};

/// An error of sampling or scoring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Sampling failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// CLIP could not score an image.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A complete image could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An image could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<NotFinite> for EngineError {
    fn from(error: NotFinite) -> Self {
        Self::Sample(error.into())
    }
}

impl EngineError {
    /// Whether the device failed. The engine then stops; any other error concerns only one job.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Sample(SampleError::Device(_))
                | Self::Score(ScoreError::Device(_))
                | Self::Decode(_)
                | Self::Encode(_)
        )
    }

    /// The error for the job's client. Unless the request is invalid, it is logged with the job's key and an id, and the client gets
    /// the id.
    pub fn report(&self, job: JobKey) -> ApiError {
        let id = match self {
            // No field name, because the two APIs name fields differently.
            Self::Sample(SampleError::Request(message)) | Self::Score(ScoreError::Request(message)) => {
                return ErrorResponse::new(ErrorCode::InvalidRequest, message.clone()).error;
            }
            _ => log_id(),
        };
        tracing::error!(%id, job = job.0, cause = %self, "generation failed");
        let message = if self.is_fatal() {
            format!("the server's device failed; try again when the server is back (log id {id})")
        } else {
            format!(
                "the model produced NaN or infinite values for this request; try another caption or seed (log id {id})"
            )
        };
        ErrorResponse::new(ErrorCode::Internal, message).error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_device_is_fatal_and_only_a_bad_request_is_explained_to_the_client() {
        let request = || "samples: expected at least 1, got 0".to_owned();
        let secret = || "secret".to_owned();
        for (error, fatal, code) in [
            (EngineError::from(SampleError::Request(request())), false, ErrorCode::InvalidRequest),
            (EngineError::from(ScoreError::Request(request())), false, ErrorCode::InvalidRequest),
            (EngineError::from(NotFinite { position: 3 }), false, ErrorCode::Internal),
            (EngineError::from(ScoreError::NotFinite), false, ErrorCode::Internal),
            (EngineError::from(SampleError::Device(secret())), true, ErrorCode::Internal),
            (EngineError::from(ScoreError::Device(secret())), true, ErrorCode::Internal),
            (EngineError::from(DecodeError::Device(secret())), true, ErrorCode::Internal),
        ] {
            assert_eq!(error.is_fatal(), fatal, "{error}");
            let report = error.report(JobKey(1));
            assert_eq!(report.code, code, "{error}");
            assert_eq!(report.message == request(), code == ErrorCode::InvalidRequest, "{}", report.message);
            assert!(!report.message.contains("secret"), "internal details are not sent: {}", report.message);
        }
    }
}
