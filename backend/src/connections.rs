//! Accepts connections and serves them, every wait bounded.
//!
//! axum's own `serve` has no limit for slow request heads and none for the end of a graceful shutdown.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections served at a time; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Longest wait for the head of a request, the next one of an idle connection included. Short, because who asks nothing
/// takes one of the places all that time; a client whose idle connection was closed opens another.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, mostly because too many files are open.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// After the stop, answers in progress get this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `stop`, then takes no more connections, lets answers in progress end, and returns.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            }
        };
        // Tokens are small and wanted now. Without it they come a little later, so a response does not matter.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let stop = stop.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(LAST_WORDS, connections.wait()).await.is_err() {
        tracing::warn!("some clients did not read to the end");
    }
}
