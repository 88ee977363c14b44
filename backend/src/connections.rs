//! Accepts connections and serves them, every wait bounded.
//!
//! axum's own `serve` has no limit for slow request heads and none for the end of a graceful shutdown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

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
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            }
        };
        // Tokens are small and wanted now. Without it they come a little later, so a refusal does not matter.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_WORDS, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not read to the end");
    }
}
