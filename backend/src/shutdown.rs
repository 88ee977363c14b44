//! The end of the server: the signals that ask for it, and what running generations and their viewers get.

use std::time::Duration;

use dalle_shared::{ErrorCode, EventKind};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// A step in progress gets this long to end, so that the device is not closed while it computes.
const LAST_STEP: Duration = Duration::from_secs(2);

/// Waits for Ctrl-C, SIGTERM or, unless the process ignores it as under `nohup`, SIGHUP.
///
/// # Errors
/// The system does not deliver signals.
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

/// Whether SIGHUP is ignored: a handler would take that back. Where the system does not tell, it is left alone.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Admits no more requests; ends waiting generations at once, and running ones after `patience`. Every log has ended then.
pub async fn drain(app: &App, patience: Duration) {
    tracing::info!("stopping");
    app.lifecycle.stop();
    let failed = || EventKind::Failed { error: ErrorResponse::stopping().error };
    app.jobs.end_waiting(&failed());
    if timeout(patience, app.jobs.all_ended()).await.is_err() {
        tracing::warn!("some generations did not finish in time");
    }
    app.jobs.end_all(&failed());
}

/// After a failure of the engine: ends every generation at once.
pub fn abandon(app: &App) {
    let message = "the server's engine failed; try again when the server is back";
    let response = ErrorResponse::new(ErrorCode::Internal, message);
    app.jobs.end_all(&EventKind::Failed { error: response.error });
}

/// Waits until the engine's thread has ended, at most [`LAST_STEP`].
pub async fn last_step(ended: oneshot::Receiver<()>) {
    if timeout(LAST_STEP, ended).await.is_err() {
        tracing::warn!("the engine did not end its last step in time");
    }
}
