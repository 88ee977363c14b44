//! Refusals as HTTP: the status of their kind, [`ErrorBody`] as JSON, perhaps Retry-After.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dalle_shared::{ErrorBody, ErrorCode};

use crate::error_response::ErrorResponse;

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(ErrorBody { error: self.error })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<PathRejection> for ErrorResponse {
    /// All parts of addresses are text, so that bytes that are none are all that can be wrong.
    fn from(_: PathRejection) -> Self {
        let message = "the address is not text: expected UTF-8 behind its percent signs";
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<QueryRejection> for ErrorResponse {
    /// All parameters are optional text, so that a repeated one is all that can be wrong.
    fn from(_: QueryRejection) -> Self {
        let message = "the query has a parameter more than once; give each once";
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

/// 404 for an address that does not exist.
pub async fn not_found(uri: Uri) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::NotFound, format!("there is nothing at {}", uri.path()))
}

/// 405 for a method that an address does not have.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ErrorResponse {
    ErrorResponse::new(
        ErrorCode::MethodNotAllowed,
        format!("{} does not take {method}; see Allow", uri.path()),
    )
}

/// 500 for a handler that panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    ErrorResponse::internal("a handler panicked").into_response()
}
