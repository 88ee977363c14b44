//! `/health/live`: the process answers. `/health/ready`: it takes requests. `/metrics`: what it has done.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{AppendHeaders, IntoResponse};

use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::telemetry;

/// 200 as long as there is a process.
pub async fn live() -> &'static str {
    "live\n"
}

/// 200 when the model is loaded and warm, 503 before and while stopping.
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ErrorResponse> {
    app.model().map(|_| "ready\n")
}

/// The Prometheus text format.
pub async fn metrics() -> impl IntoResponse {
    let head = AppendHeaders([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")]);
    (head, telemetry::recorder().render())
}
