//! `/health/live`, `/health/ready` and `/metrics`, for operators.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{AppendHeaders, IntoResponse};

use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::telemetry;

/// 200, or 503 if the engine has stalled, so that a supervisor restarts the process.
pub async fn live(State(app): State<Arc<App>>) -> Result<&'static str, ErrorResponse> {
    if app.engine.is_stalled() { Err(ErrorResponse::stalled()) } else { Ok("live\n") }
}

/// 200 if the server accepts requests; 503 while it loads or stops, or if its engine has stalled.
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ErrorResponse> {
    app.model().map(|_| "ready\n")
}

/// Metrics in Prometheus' text format.
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    metrics::gauge!("dalle_engine_silence_seconds").set(app.engine.silence().as_secs_f64());
    metrics::gauge!("dalle_engine_stalled").set(if app.engine.is_stalled() { 1.0 } else { 0.0 });
    let head = AppendHeaders([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")]);
    (head, telemetry::recorder().render())
}
