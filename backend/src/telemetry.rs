//! Prometheus metrics, and a log message per request.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of histogram buckets in seconds, from a step on a fast GPU to a whole image on a slow CPU.
const BUCKETS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0];

/// How often histogram samples are aggregated. Scraping does this too, but memory must also stay bounded if nothing scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Methods with a label of their own.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// The route of requests for files of the page.
const PAGE: &str = "(page)";

/// The process's recorder, installed on the first call.
pub fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("another metrics recorder is installed: /metrics stays empty");
        }
        describe();
        handle
    })
}

/// Keeps the recorder's memory bounded. Never returns.
pub async fn upkeep() -> Infallible {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        recorder().run_upkeep();
    }
}

fn describe() {
    use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
    describe_counter!("dalle_requests_total", "HTTP requests by route, method and status");
    // Set to 0, so that they exist before the first event.
    for (name, text) in [
        ("dalle_tokens_sampled_total", "Image tokens sampled"),
        ("dalle_finished_total", "Generations that finished"),
        ("dalle_failed_total", "Generations that failed"),
        ("dalle_cancelled_total", "Generations cancelled by their client, or abandoned"),
        ("dalle_busy_total", "Requests refused because the queue was full"),
        ("dalle_connections_refused_total", "Connections refused because their address had too many"),
    ] {
        describe_counter!(name, text);
        counter!(name).absolute(0);
    }
    for (name, text) in [
        ("dalle_queue_depth", "Generations waiting for the engine"),
        ("dalle_rows_running", "Samples in the batch"),
        ("dalle_connections", "Open connections"),
        ("dalle_engine_silence_seconds", "Seconds since a busy engine last made progress; 0 if it is idle"),
        ("dalle_engine_stalled", "1 if the engine does not respond"),
    ] {
        describe_gauge!(name, text);
        gauge!(name).set(0.0);
    }
    for (name, text) in [
        ("dalle_step_seconds", "Duration of one step of the batch"),
        ("dalle_queue_wait_seconds", "Time from admission to the start in the engine"),
        ("dalle_time_to_first_token_seconds", "Time from admission to the first token in the log"),
    ] {
        describe_histogram!(name, Unit::Seconds, text);
    }
    describe_gauge!("dalle_build_info", "1, with the version as label");
    gauge!("dalle_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Middleware that counts and logs each request under its route. Paths of API routes are not logged, because they contain ids of
/// generations, and a client that knows an id can cancel it.
pub async fn observe(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or(PAGE, MatchedPath::as_str).to_owned();
    let path = if route == PAGE { request.uri().path() } else { route.as_str() }.to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(%method, path, status, elapsed = ?begin.elapsed(), "request");
    metrics::counter!("dalle_requests_total",
        "route" => route, "method" => label(&method), "status" => status.to_string())
    .increment(1);
    response
}

/// The label of a method. Unknown methods share one label, so that clients cannot create any number of time series.
fn label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
