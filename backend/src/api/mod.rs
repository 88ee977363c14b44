//! The HTTP API, one file per part. Handlers read and append to shared state; none of them touches a device.

mod error;
mod events;
mod generations;
mod headers;
mod health;
mod hosts;
mod images;
mod json;
mod model;
mod models;
mod reading;
mod render;
mod site;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};

pub use self::hosts::Hosts;
use crate::admission::App;
use crate::options::Options;
use crate::telemetry;

/// The server's routers, by kind of connection.
pub struct Routers {
    /// All routes.
    pub public: Router,
    /// For connections beyond the limit: `/health` and `/metrics`, and 503 for everything else.
    pub overflow: Router,
    /// For operators: `/health` and `/metrics`.
    pub admin: Router,
}

impl Routers {
    /// The routers of a server. `metrics` says whether `/metrics` is public.
    pub fn new(app: &Arc<App>, options: &Options, hosts: &Hosts, metrics: bool) -> Self {
        let api = interface().merge(health()).merge(self::metrics(metrics));
        let api = api.method_not_allowed_fallback(error::method_not_allowed);
        let public = match &options.site {
            Some(folder) => headers::on_api(api).fallback_service(site::router(folder)),
            None => headers::on_api(api.fallback(error::not_found)),
        };
        let overflow = headers::on_api(health().merge(self::metrics(metrics)).fallback(error::no_connection));
        let admin = headers::on_api(health().merge(self::metrics(true)).fallback(error::not_found));
        let [public, overflow] = [public, overflow].map(|router| {
            let router = router.layer(from_fn_with_state(hosts.clone(), hosts::check));
            if options.origins.is_empty() { router } else { router.layer(cors(options.origins.clone())) }
        });
        let [public, overflow, admin] = [public, overflow, admin].map(|router| {
            let router = router.layer(CatchPanicLayer::custom(error::panicked));
            headers::on_all(router.with_state(Arc::clone(app))).layer(from_fn(telemetry::observe))
        });
        Self { public, overflow, admin }
    }
}

fn interface() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/model", get(model::show))
        .route("/v1/model/files/{name}", get(model::file))
        .route("/v1/generations", post(generations::create))
        .route("/v1/generations/{id}", get(generations::show).delete(generations::cancel))
        .route("/v1/generations/{id}/events", get(events::stream_events))
        .route("/v1/generations/{id}/images/{sample}", get(render::show))
        .merge(openai(""))
        .merge(openai("/v1"))
        .route("/v1", get(error::not_found))
        .route("/v1/{*rest}", get(error::not_found).fallback(error::not_found))
}

/// OpenAI's API below `base`. Clients are configured with a base URL, with or without `/v1`.
fn openai(base: &str) -> Router<Arc<App>> {
    Router::new()
        .route(&format!("{base}/models"), get(models::list))
        .route(&format!("{base}/models/{{*id}}"), get(models::show))
        .route(&format!("{base}/images/generations"), post(images::create))
        .route(
            &format!("{base}/images/edits"),
            post(images::edit).layer(DefaultBodyLimit::max(images::MAX_FORM)),
        )
        .route(
            &format!("{base}/images/variations"),
            post(images::vary).layer(DefaultBodyLimit::max(images::MAX_FORM)),
        )
}

fn health() -> Router<Arc<App>> {
    Router::new().route("/health/live", get(health::live)).route("/health/ready", get(health::ready))
}

fn metrics(shown: bool) -> Router<Arc<App>> {
    let handler = if shown { get(health::metrics) } else { get(error::not_found) };
    Router::new().route("/metrics", handler)
}

/// Allows pages of the configured origins to use the API. Others get no CORS headers.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Clients send headers of their own, such as OpenAI's `x-stainless-os`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER, LOCATION, images::TOKENS_IGNORED])
        .max_age(Duration::from_secs(600))
}
