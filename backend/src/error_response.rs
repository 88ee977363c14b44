//! Saying no: an [`ApiError`] on its way to the client.

use std::fmt::Display;

use dalle_shared::{ApiError, ErrorCode, RequestError};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// What the body says.
    pub error: ApiError,
    /// Seconds for the Retry-After header.
    pub retry_after: Option<u64>,
}

impl ErrorResponse {
    /// Any kind, of no field in particular.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error: ApiError { code, message: message.into(), field: None }, retry_after: None }
    }

    /// 400: a field at fault.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let error =
            ApiError { code: ErrorCode::InvalidRequest, message: message.into(), field: Some(field.into()) };
        Self { error, retry_after: None }
    }

    /// 400: nothing here can choose among pictures.
    pub fn cannot_score() -> Self {
        let message = "this model has no contrastive model to choose by; leave `best_of` out";
        Self::invalid("best_of", message)
    }

    /// 500: a fault of the server's own. What happened goes to the log under an id; the client gets the id.
    pub fn internal(cause: impl Display) -> Self {
        let id = log_id();
        tracing::error!(%id, %cause, "internal error");
        let message = format!("the server failed; its log says why under the id {id}. Try again");
        Self::new(ErrorCode::Internal, message)
    }

    /// 503: the server is about to stop.
    pub fn stopping() -> Self {
        Self::new(ErrorCode::Unavailable, "the server is stopping; try again in a moment").after(5)
    }

    /// With a Retry-After header.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// A random id that finds an error in the log.
pub fn log_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

impl From<RequestError> for ErrorResponse {
    fn from(error: RequestError) -> Self {
        Self::invalid(error.field, error.message)
    }
}
