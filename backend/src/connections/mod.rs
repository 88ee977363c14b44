//! Accepts and serves connections. Every wait has a time limit, and no client can take all connections.
//!
//! axum's own `serve` has no limits for slow request heads, for clients that do not read, and for a graceful shutdown.

mod files;
mod limits;
mod stream;

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::files::make_room;
use self::limits::{Admission, ConnectionLimits};
use self::stream::ClientStream;

/// Time limit for a request's head, also for the next request on an idle connection. Short, because an idle connection counts
/// against the limit and its client can open another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a connection from the reserve.
const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of a connection's buffers in bytes, and thereby the maximum size of a request's head.
const BUFFER: usize = 64 * 1024;
/// Pause after the system failed to accept a connection, usually because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time that responses in progress have after the stop.
const LAST_RESPONSES: Duration = Duration::from_secs(2);

/// The router and the limits of a listener.
#[derive(Clone)]
pub struct Service {
    /// For connections within the limits.
    pub router: Router,
    /// For connections beyond the limit: `/health` and `/metrics`, and 503 for everything else.
    pub overflow: Router,
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of connections per address; see [`limits::PER_ADDRESS`] for the default.
    pub per_address: Option<usize>,
    /// A connection is closed if its client reads nothing for this long.
    pub write_timeout: Duration,
}

/// Serves until `stop`, then stops accepting, waits for responses in progress, and returns.
pub async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let limits = ConnectionLimits::new(service.connections, service.per_address);
    let connections = TaskTracker::new();
    loop {
        let accept = async { (limits.reserve().await, listener.accept().await) };
        let (reserved, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Events are small and should be sent immediately. If this fails they are only delayed a little.
        let _ = tcp.set_nodelay(true);
        let (service, stop) = (service.clone(), stop.clone());
        match limits.admit(peer.ip(), reserved) {
            Admission::Admitted(permit) => drop(connections.spawn(async move {
                let mut http = http1::Builder::new();
                http.header_read_timeout(HEAD_TIMEOUT);
                serve_connection(&mut http, tcp, service.router, service.write_timeout, stop).await;
                drop(permit);
            })),
            Admission::Reserve(reserved) => drop(connections.spawn(async move {
                let mut http = http1::Builder::new();
                http.header_read_timeout(RESERVE_HEAD_TIMEOUT).keep_alive(false);
                serve_connection(&mut http, tcp, service.overflow, RESERVE_HEAD_TIMEOUT, stop).await;
                drop(reserved);
            })),
            Admission::Refused => metrics::counter!("dalle_connections_refused_total").increment(1),
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(LAST_RESPONSES, connections.wait()).await.is_err() {
        tracing::warn!("some clients did not read their responses in time");
    }
}

async fn serve_connection(
    http: &mut http1::Builder,
    tcp: TcpStream,
    router: Router,
    write_timeout: Duration,
    stop: CancellationToken,
) {
    metrics::gauge!("dalle_connections").increment(1);
    let stream = ClientStream::new(tcp, write_timeout);
    let mut client_left = pin!(stream.client_left());
    let connection = http
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                break;
            }
            () = client_left.as_mut() => {
                tracing::debug!("the client disconnected");
                break;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    metrics::gauge!("dalle_connections").decrement(1);
}
