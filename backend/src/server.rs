//! Puts the parts together and runs them from start to end.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admission::App;
use crate::engine::{Engine, Loaded};
use crate::jobs::{Registry, Retention};
use crate::lifecycle::Lifecycle;
use crate::queue::Queue;
use crate::{api, connections, shutdown, telemetry};

/// How long and how many ended generations can be read again.
const KEPT: (Duration, usize) = (Duration::from_secs(600), 256);

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The page's folder.
    pub site: Option<PathBuf>,
    /// Generations that may wait.
    pub queue: usize,
    /// Samples that advance together; at least [`MAX_SAMPLES`](dalle_shared::MAX_SAMPLES), so that every request fits.
    pub max_rows: usize,
    /// An unfinished generation that nobody watches is cancelled after this time.
    pub grace: Duration,
    /// The Images API answers within this time, or 503.
    pub images_timeout: Duration,
    /// Origins of pages hosted elsewhere.
    pub origins: Vec<HeaderValue>,
}

impl Default for Options {
    /// What the command line gives without options.
    fn default() -> Self {
        Self {
            site: None,
            queue: 16,
            max_rows: 32,
            grace: Duration::from_secs(10),
            images_timeout: Duration::from_secs(600),
            origins: Vec::new(),
        }
    }
}

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The model could not be loaded, or the device failed.
    #[error("{0}")]
    Engine(String),
    /// The system refused something.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Serves until `stop`. `load` runs on the engine's thread; until it is done, requests are answered 503.
///
/// # Errors
/// [`ServerError::Engine`] when loading or the engine failed; everybody has been told then.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    telemetry::recorder();
    let engine = Engine::new();
    let retention = Retention { grace: options.grace, age: KEPT.0, count: KEPT.1 };
    let max_rows = options.max_rows.max(dalle_shared::MAX_SAMPLES);
    let app = Arc::new(App::new(
        Arc::new(Lifecycle::new()),
        Registry::new(retention),
        Arc::new(Queue::new(options.queue)),
        engine.handle(),
        max_rows,
        options.images_timeout,
    ));
    let router = api::router(Arc::clone(&app), options.site.as_deref(), options.origins);
    let close = CancellationToken::new();
    let connections = tokio::spawn(connections::serve(listener, router, close.clone()));
    let [ready, failed] = [(); 2].map(|()| Arc::clone(&app.lifecycle));
    let engine_ended = engine.start(
        load,
        Arc::clone(&app.queue),
        max_rows,
        move |model| ready.ready(model),
        move |reason| failed.fail(reason),
    )?;

    let outcome = tokio::select! {
        () = stop => Ok(()),
        reason = app.lifecycle.failed() => Err(ServerError::Engine(reason)),
        never = app.jobs.expire() => match never {},
        never = telemetry::upkeep() => match never {},
    };
    match outcome {
        Ok(()) => shutdown::drain(&app).await,
        Err(_) => shutdown::abandon(&app),
    }
    // The engine still decodes images of finished generations while their answers are sent.
    close.cancel();
    // It does not panic; if it did, the process is ending anyway.
    let _ = connections.await;
    app.engine.stop();
    shutdown::last_step(engine_ended).await;
    outcome
}
