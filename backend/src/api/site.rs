//! Serves the built page from a folder.
//!
//! Files with a `.gz` beside them are sent compressed. All have an ETag and are revalidated at each use: a new build is effective
//! immediately, and an unchanged file costs a 304. Those in `build` have their hash in their name, and browsers may keep them.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName};
use axum::response::{IntoResponse, Response};
use tower::service_fn;
use tower_http::services::ServeDir;

use super::{error, headers};
use crate::error_response::ErrorResponse;

/// Allows scripts from this server only, compiling wasm, a backend on another host, images created in the page, and the style
/// attributes that the page sets.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self'; manifest-src 'self'; \
    connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where `scripts/build-site` puts files with their hash in their name.
const HASHED: &str = "/build/";

const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), bluetooth=()",
    ),
];

/// Serves `folder` at `/`.
pub fn router(folder: &Path) -> Router {
    let files = ServeDir::new(folder).precompressed_gzip();
    let files = service_fn(move |request: Request| {
        let mut files = files.clone();
        async move {
            let uri = request.uri().clone();
            let mut kept = "no-cache";
            // `ServeDir` would redirect `//host` to the host of that name if there were such a folder.
            let response = if uri.path().starts_with("//") {
                error::not_found(uri).await.into_response()
            } else {
                match files.try_call(request).await {
                    Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                        error::not_found(uri).await.into_response()
                    }
                    Ok(response) => {
                        if uri.path().starts_with(HASHED) {
                            kept = "public, max-age=31536000, immutable";
                        }
                        response.map(Body::new)
                    }
                    Err(cause) if no_such_file(&cause) => error::not_found(uri).await.into_response(),
                    Err(cause) => ErrorResponse::internal(cause).into_response(),
                }
            };
            Ok::<Response, Infallible>(([(CACHE_CONTROL, kept)], response).into_response())
        }
    });
    headers::with(Router::new().fallback_service(files), HEADERS)
}

/// Whether there can be no file for the URL, for example because a path component is longer than file names may be.
fn no_such_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
    )
}
