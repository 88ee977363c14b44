//! Graceful shutdown: the signals that start it, and the end of running generations.

use std::time::Duration;

use dalle_shared::{ErrorCode, EventKind};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// Time that the current step has to finish, so that the device is not closed while it computes.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Waits for Ctrl-C, SIGTERM, or SIGHUP unless the process ignores it, as under `nohup`.
///
/// # Errors
/// The signal handlers cannot be installed.
pub async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let hung_up = async {
            match &mut hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed,
            _ = terminate.recv() => Ok(()),
            _ = hung_up => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Whether SIGHUP is ignored, in which case no handler must be installed. True if the system does not say.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Stops admission, and ends waiting generations immediately and running ones after `limit`. Afterwards every log has ended.
pub async fn drain(app: &App, limit: Duration) {
    tracing::info!("stopping");
    app.lifecycle.stop();
    let failed = || EventKind::Failed { error: ErrorResponse::stopping().error };
    app.jobs.end_waiting(&failed());
    if timeout(limit, app.jobs.all_ended()).await.is_err() {
        tracing::warn!("some generations did not finish in time");
    }
    app.jobs.end_all(&failed());
}

/// Ends every generation immediately, after a failure of the engine.
pub fn abandon(app: &App) {
    let message = "the server's engine failed; try again when the server is back";
    let response = ErrorResponse::new(ErrorCode::Internal, message);
    app.jobs.end_all(&EventKind::Failed { error: response.error });
}

/// Waits for the engine's thread to end, at most [`LAST_STEP`].
pub async fn last_step(ended: oneshot::Receiver<()>) {
    if timeout(LAST_STEP, ended).await.is_err() {
        tracing::warn!("the engine did not end its last step in time");
    }
}
