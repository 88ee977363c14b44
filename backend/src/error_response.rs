//! Error responses: an [`ApiError`] on its way to the client, with Retry-After where it helps.

use std::fmt::Display;

use dalle_shared::{ApiError, ErrorCode, RequestError};

/// Retry-After in seconds of a server that is stopping.
const RETRY_STOPPING: u64 = 5;
/// Retry-After in seconds of a server whose engine has stalled.
const RETRY_STALLED: u64 = 30;

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The body.
    pub error: ApiError,
    /// Seconds for the Retry-After header.
    pub retry_after: Option<u64>,
}

impl ErrorResponse {
    /// An error of any kind that names no field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: ApiError { code, message: message.into(), field: None }, retry_after: None }
    }

    /// 400: a field of the request is wrong.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let error =
            ApiError { code: ErrorCode::InvalidRequest, message: message.into(), field: Some(field.into()) };
        Self { error, retry_after: None }
    }

    /// 400: `best_of` is set, but the model has no CLIP.
    pub fn cannot_score() -> Self {
        let message = "this model has no CLIP to rerank images with; leave `best_of` out";
        Self::invalid("best_of", message)
    }

    /// 500: the server failed. The cause is logged with an id, which the client gets.
    pub fn internal(cause: impl Display) -> Self {
        let id = log_id();
        tracing::error!(%id, %cause, "internal error");
        Self::new(ErrorCode::Internal, format!("the server failed; try again (log id {id})"))
    }

    /// 503: the server is stopping.
    pub fn stopping() -> Self {
        let message = "the server is stopping; try again in a moment";
        Self::new(ErrorCode::Unavailable, message).after(RETRY_STOPPING)
    }

    /// 503: the engine does not respond.
    pub fn stalled() -> Self {
        let message = "the server's engine does not respond; try again later";
        Self::new(ErrorCode::Unavailable, message).after(RETRY_STALLED)
    }

    /// Adds a Retry-After header.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// A random id for finding an error in the log.
pub fn log_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

impl From<RequestError> for ErrorResponse {
    fn from(error: RequestError) -> Self {
        Self::invalid(error.field, error.message)
    }
}

impl From<ApiError> for ErrorResponse {
    /// The error that ended a generation.
    fn from(error: ApiError) -> Self {
        let retry_after = (error.code == ErrorCode::Unavailable).then_some(RETRY_STOPPING);
        Self { error, retry_after }
    }
}
