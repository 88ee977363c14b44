//! Body of every error response.

use serde::{Deserialize, Serialize};

/// Body of every 4xx and 5xx response: `{"error": {"code", "message", "field"}}`. OpenAI's clients read the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// An error, for a program ([`code`](Self::code), [`field`](Self::field)) and for a person ([`message`](Self::message)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The kind of error.
    pub code: ErrorCode,
    /// What was expected, what was received, and what to do.
    pub message: String,
    /// The wrong field of the request, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kinds of error, each with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: a field is missing, unknown or out of range.
    InvalidRequest,
    /// 404: no such URL, file or generation; ended generations are forgotten after a while.
    NotFound,
    /// 405: the URL does not support this method.
    MethodNotAllowed,
    /// 409: the request is for another model than the one served.
    WrongModel,
    /// 413: the body is larger than the server's limit.
    TooLarge,
    /// 415: the body is not plain JSON.
    UnsupportedMediaType,
    /// 429: the queue is full, or a generation has too many viewers; see Retry-After.
    Busy,
    /// 500: the server failed; its log has the details.
    Internal,
    /// 503: the server is starting, stopping or overloaded; see Retry-After.
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
