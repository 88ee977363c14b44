//! The one shape in which the server says no.

use serde::{Deserialize, Serialize};

/// Body of every 4xx and 5xx answer: `{"error": {"code", "message", "field"}}`. OpenAI's clients read the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// What went wrong, for a program ([`code`](Self::code), [`field`](Self::field)) and for a person
/// ([`message`](Self::message)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Which kind of error.
    pub code: ErrorCode,
    /// A sentence: what was expected, what came, what to do.
    pub message: String,
    /// The request's field at fault, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kinds of error. Each has one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: a field is missing, unknown or out of range.
    InvalidRequest,
    /// 404: no such generation, or it is too old to be kept.
    NotFound,
    /// 405: the address exists but not with this method.
    MethodNotAllowed,
    /// 409: the request names another model than the one served.
    WrongModel,
    /// 413: the body is larger than the server reads.
    TooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 429: the queue is full; see Retry-After.
    Busy,
    /// 500: a fault of the server; details are in its log.
    Internal,
    /// 503: the server is starting or stopping.
    Unavailable,
}

impl ErrorCode {
    /// The HTTP status of this kind.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::WrongModel => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}
