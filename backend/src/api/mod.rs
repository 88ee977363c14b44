//! HTTP: one file for each part of the interface. Handlers look at and append to shared state; none touches a device.

mod error;
mod events;
mod generations;
mod health;
mod images;
mod json;
mod model;
mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, Method};
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;

use crate::admission::App;
use crate::telemetry;

/// Every address of the server.
pub fn router(app: Arc<App>, site: Option<&Path>, origins: Vec<HeaderValue>) -> Router {
    let v1 = Router::new()
        .route("/v1/model", get(model::show))
        .route("/v1/model/files/{name}", get(model::file))
        .route("/v1/generations", post(generations::create))
        .route("/v1/generations/{id}", get(generations::show).delete(generations::cancel))
        .route("/v1/generations/{id}/events", get(events::stream_events))
        .route("/v1/images/generations", post(images::create))
        .route("/v1", get(error::not_found))
        .route("/v1/{*rest}", get(error::not_found).fallback(error::not_found))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(app);
    let router = match site {
        Some(folder) => v1.fallback_service(site::router(folder)),
        None => v1.fallback(error::not_found),
    };
    let router = if origins.is_empty() { router } else { router.layer(cors(origins)) };
    router.layer(CatchPanicLayer::custom(error::panicked)).layer(from_fn(telemetry::observe))
}

/// Pages hosted at the configured origins may use the interface; others are told nothing.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([CONTENT_TYPE, AUTHORIZATION, events::LAST_EVENT_ID])
        .expose_headers([RETRY_AFTER, LOCATION])
        .max_age(Duration::from_secs(600))
}
