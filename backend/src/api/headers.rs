//! Security headers of every response.

use axum::Router;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use tower_http::set_header::SetResponseHeaderLayer;

/// On every response: browsers do not guess another type, send no referrer, and do not let other sites embed it. Pages of allowed
/// origins use CORS, which the resource policy does not limit.
const ALL: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// On responses that are data: a browser that shows them as a page runs and loads nothing.
const API: [(HeaderName, &str); 1] =
    [(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'")];

/// Adds the headers of every response.
pub fn of_all(router: Router) -> Router {
    with(router, ALL)
}

/// Adds the headers of data.
pub fn of_api<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    with(router, API)
}

/// Adds `headers`.
pub fn with<S: Clone + Send + Sync + 'static, const N: usize>(
    router: Router<S>,
    headers: [(HeaderName, &'static str); N],
) -> Router<S> {
    headers.into_iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    })
}
