//! Watches the engine, so that generations do not wait forever for an engine that hangs.

use std::convert::Infallible;
use std::time::Duration;

use dalle_shared::EventKind;
use tokio::time::sleep;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// Minimum time between two checks of the engine, and the time between checks of a stalled one.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Ends all generations when the engine stalls. Never returns. While it is stalled, nothing is admitted and `/health/live` returns
/// 503, so that a supervisor can restart the process.
pub async fn watch(app: &App) -> Infallible {
    loop {
        let (silence, patience) = (app.engine.silence(), app.engine.patience());
        if silence <= patience {
            sleep((patience - silence).max(POLL_INTERVAL.min(patience))).await;
            continue;
        }
        tracing::error!(?silence, "the engine does not respond; ending its generations");
        while app.engine.is_stalled() {
            app.jobs.end_all(&EventKind::Failed { error: ErrorResponse::stalled().error });
            sleep(POLL_INTERVAL).await;
        }
        tracing::info!("the engine responds again");
    }
}
