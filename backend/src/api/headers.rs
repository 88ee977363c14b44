//! Security headers of every response.

use axum::Router;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use tower_http::set_header::SetResponseHeaderLayer;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// On every response: browsers neither guess another content type nor send a referrer.
const ALL: [(HeaderName, &str); 2] = [(X_CONTENT_TYPE_OPTIONS, "nosniff"), (REFERRER_POLICY, "no-referrer")];

/// On every response that sets no other policy: other sites cannot embed it.
const EMBEDDING: HeaderValue = HeaderValue::from_static("same-origin");

/// On API responses: a browser that displays one as a page runs and loads nothing. CORS decides which pages can read them. Other
/// pages can detect that there is a server, so that they can report that it refuses them.
const API: [(HeaderName, &str); 2] = [
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (RESOURCE_POLICY, "cross-origin"),
];

/// Adds the headers of all responses.
pub fn on_all(router: Router) -> Router {
    with(router, ALL).layer(SetResponseHeaderLayer::if_not_present(RESOURCE_POLICY, EMBEDDING))
}

/// Adds the headers of API responses.
pub fn on_api<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
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
