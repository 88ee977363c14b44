//! Extracts the JSON body of a request, with limits on size and time, and its idempotency key. Errors name the field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use dalle_shared::ErrorCode;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error_response::ErrorResponse;
use crate::idempotency::RepeatKey;

/// Maximum size of a body in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Bytes of a larger body that are read and discarded, so that a client that is still sending can read the error.
const MAX_DISCARDED: usize = 4 * 1024 * 1024;
/// Time limit for receiving the whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// UTF-8's byte order mark, which some programs write in front of JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Extracts a `T`, like axum's `Json`, with this server's error responses.
pub struct JsonBody<T> {
    /// The body.
    pub value: T,
    /// The request's `Idempotency-Key`.
    pub repeat: Option<RepeatKey>,
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ErrorResponse> {
        let (head, body) = request.into_parts();
        check_type(&head.headers)?;
        check_encoding(&head.headers)?;
        let declared: Option<usize> =
            head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length| length > MAX_DISCARDED) {
            return Err(too_large());
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read(body)).await.map_err(|_| {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            ErrorResponse::new(ErrorCode::InvalidRequest, message)
        })??;
        let repeat = RepeatKey::of(&head.headers, head.uri.path(), &bytes)?;
        Ok(Self { value: parse(&bytes)?, repeat })
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    let got = headers.get(CONTENT_TYPE).map_or("none", |value| value.to_str().unwrap_or("non-ASCII bytes"));
    let essence = got.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("expected the header `Content-Type: application/json`, got {got}");
    Err(ErrorResponse::new(ErrorCode::UnsupportedMediaType, message))
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    match headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("non-ASCII bytes")) {
        Some(got) if !got.trim().is_empty() && !got.trim().eq_ignore_ascii_case("identity") => {
            let message = format!("expected an uncompressed body, got `Content-Encoding: {got}`");
            Err(ErrorResponse::new(ErrorCode::UnsupportedMediaType, message))
        }
        _ => Ok(()),
    }
}

fn too_large() -> ErrorResponse {
    let message = format!("expected a body of at most {MAX_BODY} bytes, got more");
    ErrorResponse::new(ErrorCode::TooLarge, message)
}

async fn read(mut body: Body) -> Result<Vec<u8>, ErrorResponse> {
    let (mut bytes, mut discarded) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ErrorResponse::new(ErrorCode::InvalidRequest, format!("the body ended early: {error}"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if discarded == 0 && bytes.len() + data.len() <= MAX_BODY {
            bytes.extend_from_slice(data);
            continue;
        }
        discarded += data.len();
        if discarded > MAX_DISCARDED {
            break;
        }
    }
    if discarded > 0 { Err(too_large()) } else { Ok(bytes) }
}

/// serde_json's message about `1e400`. serde_json reports it as malformed JSON, although it concerns a single field.
const OUT_OF_RANGE: &str = "number out of range";

/// Parses a JSON object.
///
/// # Errors
/// It is no object, or a field is wrong; the error names the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorResponse> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    // serde would also accept an array of the fields' values.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let message = "expected a JSON object, `{…}`, as the body, got something else";
        return Err(ErrorResponse::new(ErrorCode::InvalidRequest, message));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let whole = cause.to_string();
        let place = format!(" at line {} column {}", cause.line(), cause.column());
        let message = whole.strip_suffix(&place).unwrap_or(&whole);
        match quoted(message) {
            Some(field) => ErrorResponse::invalid(field, message),
            None if cause.classify() == Category::Data || message == OUT_OF_RANGE => {
                ErrorResponse::invalid(path, plain(message))
            }
            None => ErrorResponse::new(ErrorCode::InvalidRequest, format!("the body is not JSON: {whole}")),
        }
    })?;
    json.end().map_err(|error| {
        ErrorResponse::new(ErrorCode::InvalidRequest, format!("more than one JSON value: {error}"))
    })?;
    Ok(value)
}

/// The field that serde's message names, for missing, unknown and repeated fields, whose path ends one level above.
fn quoted(message: &str) -> Option<&str> {
    let starts = ["missing field `", "duplicate field `", "unknown field `"];
    starts.iter().find_map(|start| message.strip_prefix(start)?.split('`').next())
}

/// serde's message about a value, without the names of Rust types.
fn plain(message: &str) -> String {
    let values = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((got, expected)) = values.and_then(|values| values.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let expected = match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "usize" => "a whole number, at least 0",
        "f32" => "a number",
        "a sequence" => "a list",
        other => other,
    };
    let got = match got {
        "map" => "an object",
        "sequence" => "a list",
        other => other,
    };
    format!("expected {expected}, got {got}")
}

#[cfg(test)]
mod tests {
    use dalle_shared::GenerationRequest;

    use super::*;

    #[test]
    fn every_malformed_field_is_named() {
        for (body, field) in [
            (r#"{"model": "m", "text": [1], "colour": "red"}"#, Some("colour")),
            (r#"{"model": "m"}"#, Some("text")),
            (r#"{"model": 1, "text": []}"#, Some("model")),
            (r#"{"model": "m", "text": [1, -2]}"#, Some("text[1]")),
            (r#"{"model": "m", "text": [1], "seed": "x"}"#, Some("seed")),
            (r#"{"model": "m", "text": [1], "seed": 18446744073709551616}"#, Some("seed")),
            (r#"{"model": "m", "text": [1], "samples": 1.5}"#, Some("samples")),
            (r#"{"model": "m", "text": [1], "text": [2]}"#, Some("text")),
            (r#"{"model": "m", "text": [1], "temperature": 1e400}"#, Some("temperature")),
            (r#"{"model": "m", "text": [1]} x"#, None),
            (r#"{"model": "m" "text": [1]}"#, None),
            (r#"{"model": m, "text": [1]}"#, None),
            ("", None),
            (r#" ["m", [1]]"#, None),
            (r#"{"model": "m", "#, None),
        ] {
            let response = parse::<GenerationRequest>(body.as_bytes()).err().unwrap();
            assert_eq!(response.error.field.as_deref(), field, "{body}: {}", response.error.message);
            assert_eq!(response.error.code, ErrorCode::InvalidRequest);
        }
        assert!(parse::<GenerationRequest>(br#"{"model": "m", "text": [1]}"#).is_ok());
        let marked = b"\xef\xbb\xbf{\"model\": \"m\", \"text\": [1]}";
        assert!(parse::<GenerationRequest>(marked).is_ok(), "with a byte order mark");
    }

    #[test]
    fn messages_name_no_rust_types() {
        for (field, message) in [
            (r#""text": 1"#, "expected a list, got integer `1`"),
            (
                r#""text": [], "prefix": [65536]"#,
                "expected a whole number from 0 to 65535, got integer `65536`",
            ),
            (r#""text": [-1]"#, "expected a whole number from 0 to 4294967295, got integer `-1`"),
            (
                r#""text": [], "samples": 1.5"#,
                "expected a whole number, at least 0, got floating point `1.5`",
            ),
            (r#""text": [], "top_p": {}"#, "expected a number, got an object"),
            (
                r#""text": [], "temperature": "a, expected b""#,
                "expected a number, got string \"a, expected b\"",
            ),
            (r#""text": [], "temperature": 1e400"#, "number out of range"),
        ] {
            let body = format!(r#"{{"model": "m", {field}}}"#);
            let response = parse::<GenerationRequest>(body.as_bytes()).err().unwrap();
            assert_eq!(response.error.message, message, "{body}");
        }
    }
}
