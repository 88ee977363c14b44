//! Accepts connections and serves them. Every wait has a bound, and no client can take all places.
//!
//! axum's own `serve` limits neither slow request heads, nor clients that do not read, nor the end of a graceful shutdown.

mod files;
mod places;
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
use self::places::{Admission, Places};
use self::stream::ClientStream;

/// Longest wait for the head of a request, also of the next one on an idle connection. Short, because an idle connection takes a
/// place; its client opens another.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same on a connection from the reserve.
const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that a connection buffers of requests and responses, and so the longest head of a request.
const BUFFER: usize = 64 * 1024;
/// Pause after the system could not accept a connection, mostly because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After the stop, responses in progress get this long.
const LAST_RESPONSES: Duration = Duration::from_secs(2);

/// What a listener serves, and its limits.
#[derive(Clone)]
pub struct Service {
    /// Every address.
    pub router: Router,
    /// What a connection gets that finds no place: `/health` and `/metrics`, and 503 for all others.
    pub overflow: Router,
    /// Connections served at a time.
    pub connections: usize,
    /// Connections of one address; see [`places::PER_ADDRESS`] for none.
    pub per_address: Option<usize>,
    /// A connection whose client reads nothing for this long is ended.
    pub write_timeout: Duration,
}

/// Serves until `stop`, then accepts no more connections, lets responses in progress end, and returns.
pub async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let places = Places::new(service.connections, service.per_address);
    let connections = TaskTracker::new();
    loop {
        let accept = async { (places.reserve().await, listener.accept().await) };
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
        // Tokens are small and should arrive at once. Without it they arrive a little later, so an error does not matter.
        let _ = tcp.set_nodelay(true);
        let (service, stop) = (service.clone(), stop.clone());
        match places.admit(peer.ip(), reserved) {
            Admission::Place(place) => drop(connections.spawn(async move {
                let mut http = http1::Builder::new();
                http.header_read_timeout(HEAD_TIMEOUT);
                serve_connection(&mut http, tcp, service.router, service.write_timeout, stop).await;
                drop(place);
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
        tracing::warn!("some clients did not read to the end");
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
                tracing::debug!("the client left");
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
