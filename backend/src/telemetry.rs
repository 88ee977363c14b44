//! Numbers for Prometheus, and a line in the log for each request.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds in seconds, from a fast GPU's step to a slow processor's whole picture.
const BUCKETS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0];

/// How often the samples of histograms are summed up. Scraping does it too, but a server that is not scraped must not collect
/// them for ever.
const UPKEEP: Duration = Duration::from_secs(5);

/// Methods with a label of their own.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// The process's recorder, installed at the first call.
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

/// Keeps the recorder's memory bounded, for ever.
pub async fn upkeep() -> Infallible {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        recorder().run_upkeep();
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("dalle_requests_total", "Requests by route, method and status");
    describe_counter!("dalle_tokens_sampled_total", "Image tokens sampled");
    describe_counter!("dalle_finished_total", "Generations that finished");
    describe_counter!("dalle_failed_total", "Generations that failed");
    describe_counter!("dalle_cancelled_total", "Generations cancelled by their client or abandoned");
    describe_counter!("dalle_busy_total", "Requests refused because the queue was full");
    describe_gauge!("dalle_queue_depth", "Generations that wait for the engine");
    describe_gauge!("dalle_rows_running", "Samples that advance together");
    describe_histogram!("dalle_step_seconds", Unit::Seconds, "Time of one step of the whole batch");
    describe_histogram!(
        "dalle_time_to_first_token_seconds",
        Unit::Seconds,
        "From admission to the first token in the log"
    );
    // So that they read 0, not absent, before the first.
    for counter in [
        "dalle_tokens_sampled_total",
        "dalle_finished_total",
        "dalle_failed_total",
        "dalle_cancelled_total",
        "dalle_busy_total",
    ] {
        metrics::counter!(counter).absolute(0);
    }
    for gauge in ["dalle_queue_depth", "dalle_rows_running"] {
        metrics::gauge!(gauge).set(0.0);
    }
}

/// Middleware: counts each request under its route, and logs it.
pub async fn observe(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("(page)", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    metrics::counter!("dalle_requests_total",
        "route" => route, "method" => label(&method), "status" => status.to_string())
    .increment(1);
    tracing::debug!(%method, path, status, elapsed = ?begin.elapsed(), "request");
    response
}

/// A method as a label. Those that a client invents share one: each label is a series that is kept for good.
fn label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
