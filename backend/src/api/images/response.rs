//! Responses of the Images API in OpenAI's form.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dalle_shared::Seed;
use serde::Serialize;

use super::request::Prompt;

/// Number of the prompt's tokens that the model did not read.
pub const TOKENS_IGNORED: HeaderName = HeaderName::from_static("x-prompt-tokens-ignored");

/// OpenAI's response, the seed that was used, and what the model did not read.
#[derive(Serialize)]
pub struct ImagesResponse {
    /// Seconds since 1970.
    pub created: u64,
    pub background: &'static str,
    pub output_format: &'static str,
    /// Size of the images, `WIDTHxHEIGHT`.
    pub size: String,
    pub data: Vec<Image>,
    pub usage: Usage,
    pub seed: Seed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_ignored: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// One image.
#[derive(Default, Serialize)]
pub struct Image {
    /// A PNG file in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The part of a too long prompt that the model read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revised_prompt: Option<String>,
}

/// Tokens read and sampled.
#[derive(Clone, Copy, Serialize)]
pub struct Usage {
    input_tokens: usize,
    input_tokens_details: TokenDetails,
    output_tokens: usize,
    output_tokens_details: TokenDetails,
    total_tokens: usize,
}

#[derive(Clone, Copy, Serialize)]
struct TokenDetails {
    image_tokens: usize,
    text_tokens: usize,
}

impl Usage {
    /// The usage of `samples` samples of `length` image tokens, the first `prefix` of which were given.
    pub fn new(prompt: &Prompt, samples: usize, length: usize, prefix: usize) -> Self {
        let text = prompt.text.len();
        let sampled = samples * (length - prefix.min(length));
        Self {
            input_tokens: text + prefix,
            input_tokens_details: TokenDetails { image_tokens: prefix, text_tokens: text },
            output_tokens: sampled,
            output_tokens_details: TokenDetails { image_tokens: sampled, text_tokens: 0 },
            total_tokens: text + prefix + sampled,
        }
    }
}

/// A file in base64.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A size of a square in OpenAI's form.
pub fn square(side: usize) -> String {
    format!("{side}x{side}")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The URL of this server as the client knows it, without a slash at the end: from the headers of a proxy, otherwise from Host. None
/// if they do not make a URL.
pub fn own_url(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
        (!value.is_empty()).then_some(value)
    };
    let host = text("x-forwarded-host").or_else(|| text(HOST.as_str()))?;
    let scheme = text("x-forwarded-proto").unwrap_or("http");
    let prefix = text("x-forwarded-prefix").unwrap_or_default().trim_end_matches('/');
    let are = |text: &str, others: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let valid = are(host, b".-_:[]")
        && ["http", "https"].contains(&scheme)
        && (prefix.is_empty() || prefix.starts_with('/') && are(prefix, b"/.-_~%"));
    valid.then(|| format!("{scheme}://{host}{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(headers: &[(&'static str, &str)]) -> Option<String> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        own_url(&headers.collect())
    }

    #[test]
    fn the_url_is_the_one_by_which_the_client_reached_the_server() {
        assert_eq!(url(&[("host", "127.0.0.1:8080")]).as_deref(), Some("http://127.0.0.1:8080"));
        let proxied = [
            ("host", "dalle:8080"),
            ("x-forwarded-host", "example.org, inner"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/dalle/"),
        ];
        assert_eq!(url(&proxied).as_deref(), Some("https://example.org/dalle"));
        for bad in [
            &[("host", "a b")][..],
            &[("host", "example.org\"><script>")],
            &[("host", "a"), ("x-forwarded-proto", "javascript")],
            &[("host", "a"), ("x-forwarded-prefix", "//evil.example\"")],
            &[],
        ] {
            assert_eq!(url(bad), None, "{bad:?}");
        }
    }
}
