//! Error responses as HTTP: the status of their kind, a body that OpenAI's clients read too, and Retry-After if set.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dalle_shared::{ApiError, ErrorCode};
use serde::Serialize;

use crate::error_response::ErrorResponse;

/// Maximum number of characters of a path that an error repeats.
const SHOWN: usize = 200;
/// Retry-After in seconds when all connections are taken.
const RETRY_CONNECTION: u64 = 5;

/// The body of an error response.
#[derive(Serialize)]
struct WireBody {
    error: WireError,
}

/// [`ApiError`] with the fields that OpenAI's clients read: `type`, and `param`, which is `field` under another name.
#[derive(Serialize)]
pub struct WireError {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl From<ApiError> for WireError {
    /// The message names the field, because many clients show only the message.
    fn from(ApiError { code, message, field }: ApiError) -> Self {
        let kind = match code {
            ErrorCode::Busy => "rate_limit_error",
            ErrorCode::Internal | ErrorCode::Unavailable => "server_error",
            _ => "invalid_request_error",
        };
        let message = match &field {
            Some(field) if !message.contains(&format!("`{field}`")) => format!("`{field}`: {message}"),
            _ => message,
        };
        Self { message, kind, param: field.clone(), code, field }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(WireBody { error: self.error.into() })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<PathRejection> for ErrorResponse {
    /// All path parameters are strings, so the only possible error is invalid UTF-8.
    fn from(_: PathRejection) -> Self {
        let message = "the URL's path is not UTF-8 after percent-decoding";
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<QueryRejection> for ErrorResponse {
    /// All query parameters are optional strings, so the only possible error is a repeated one.
    fn from(_: QueryRejection) -> Self {
        let message = "the query has a parameter more than once; give each once";
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

/// 404 for a URL that does not exist.
pub async fn not_found(uri: Uri) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::NotFound, format!("there is nothing at {}", shown(&uri)))
}

/// 405 for a method that a URL does not support.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ErrorResponse {
    let message = format!("{} does not support {method}; the Allow header lists its methods", shown(&uri));
    ErrorResponse::new(ErrorCode::MethodNotAllowed, message)
}

/// 503 for a connection beyond the limit.
pub async fn no_connection() -> ErrorResponse {
    let message = "the server has no free connection; try again in a moment";
    ErrorResponse::new(ErrorCode::Unavailable, message).after(RETRY_CONNECTION)
}

/// 500 for a handler that panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    ErrorResponse::internal("a handler panicked").into_response()
}

/// The path of a URL, truncated if it is long.
fn shown(uri: &Uri) -> String {
    let path = uri.path();
    match path.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}
