//! Assembles the server and runs it until it stops.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::App;
use crate::api::{self, Hosts};
use crate::connections::{self, Service};
use crate::engine::{Engine, Loaded};
use crate::options::Options;
use crate::{shutdown, stall, telemetry};

/// Maximum number of connections at the admin address.
const ADMIN_CONNECTIONS: usize = 64;

/// The server's listening sockets.
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For operators: `/health` and `/metrics`. With it, `/metrics` is not public.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, admin: None }
    }
}

/// Why a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The model could not be loaded, or the device failed.
    #[error("{0}")]
    Engine(String),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Serves until `stop`. `load` runs on the engine's thread; until it is done, requests get 503.
///
/// # Errors
/// [`ServerError::Engine`] if loading or the engine failed. Every generation has then been ended.
pub async fn serve(
    listeners: impl Into<Listeners>,
    options: Options,
    load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    telemetry::recorder();
    let engine = Engine::new(options.stall_timeout);
    let app = Arc::new(App::new(&options, engine.handle()));
    let close = CancellationToken::new();
    let connections = listen(listeners.into(), &options, &app, &close)?;
    let [ready, failed] = [(); 2].map(|()| Arc::clone(&app.lifecycle));
    let engine_ended = engine.start(
        load,
        Arc::clone(&app.queue),
        options.rows(),
        move |model| ready.ready(model),
        move |reason| failed.fail(reason),
    )?;

    let outcome = tokio::select! {
        () = stop => Ok(()),
        reason = app.lifecycle.failed() => Err(ServerError::Engine(reason)),
        never = app.jobs.expire() => match never {},
        never = stall::watch(&app) => match never {},
        never = telemetry::upkeep() => match never {},
    };
    match outcome {
        Ok(()) => shutdown::drain(&app, options.drain).await,
        Err(_) => shutdown::abandon(&app),
    }
    // While responses are sent, the engine still decodes images of finished generations.
    close.cancel();
    connections.wait().await;
    app.engine.stop();
    shutdown::last_step(engine_ended).await;
    outcome
}

/// Starts serving on all listeners, until `close`.
fn listen(
    listeners: Listeners,
    options: &Options,
    app: &Arc<App>,
    close: &CancellationToken,
) -> std::io::Result<TaskTracker> {
    let Listeners { public, admin } = listeners;
    let hosts = Hosts::new(public.local_addr()?.ip(), &options.hosts);
    let routers = api::Routers::new(app, options, &hosts, admin.is_none());
    let tasks = TaskTracker::new();
    if let Some(admin) = admin {
        let service = Service {
            router: routers.admin.clone(),
            overflow: routers.admin,
            connections: ADMIN_CONNECTIONS,
            per_address: Some(ADMIN_CONNECTIONS),
            write_timeout: options.write_timeout,
        };
        tasks.spawn(connections::serve(admin, service, close.clone()));
    }
    let service = Service {
        router: routers.public,
        overflow: routers.overflow,
        connections: connections::make_room(options.max_connections),
        per_address: options.connections_per_address,
        write_timeout: options.write_timeout,
    };
    tasks.spawn(connections::serve(public, service, close.clone()));
    tasks.close();
    Ok(tasks)
}
