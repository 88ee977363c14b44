//! Ending well: when the process is told to stop, and what running generations and their viewers get.

use std::time::Duration;

use dalle_shared::{ErrorCode, EventKind};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// Running generations get this long to finish.
const DRAIN: Duration = Duration::from_secs(5);
/// A step in progress gets this long to end, so that the device is not torn down under it.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Waits for Ctrl-C or SIGTERM.
///
/// # Errors
/// The system's response to tell of signals.
pub async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Admits nothing more; tells those who wait at once, those who run after [`DRAIN`]. Every log has ended then.
pub async fn drain(app: &App) {
    tracing::info!("stopping");
    app.lifecycle.stop();
    let failed = || EventKind::Failed { error: ErrorResponse::stopping().error };
    app.jobs.end_waiting(&failed());
    if timeout(DRAIN, app.jobs.all_ended()).await.is_err() {
        tracing::warn!("some generations did not finish in time");
    }
    app.jobs.end_all(&failed());
}

/// After a failure of the engine: nothing will move any more, so everybody is told at once.
pub fn abandon(app: &App) {
    let message = "the server's engine failed; ask again when the server is back";
    let response = ErrorResponse::new(ErrorCode::Internal, message);
    app.jobs.end_all(&EventKind::Failed { error: response.error });
}

/// Waits until the engine's thread has ended, at most [`LAST_STEP`].
pub async fn last_step(ended: oneshot::Receiver<()>) {
    if timeout(LAST_STEP, ended).await.is_err() {
        tracing::warn!("the engine did not end its last step in time");
    }
}
