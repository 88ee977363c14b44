//! Watches the engine, so that no generation waits without bound for an engine that hangs.

use std::convert::Infallible;
use std::time::Duration;

use dalle_shared::EventKind;
use tokio::time::sleep;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// Least time between two looks at the engine, and how often a stalled one is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Ends all generations whenever the engine stalls. Never returns. As long as it is stalled, nothing is admitted and
/// `/health/live` answers 503, so that a supervisor can restart the process.
pub async fn watch(app: &App) -> Infallible {
    loop {
        let (silence, patience) = (app.engine.silence(), app.engine.patience());
        if silence <= patience {
            sleep((patience - silence).max(LOOK.min(patience))).await;
            continue;
        }
        tracing::error!(?silence, "the engine does not respond; its generations are ended");
        while app.engine.is_stalled() {
            app.jobs.end_all(&EventKind::Failed { error: ErrorResponse::stalled().error });
            sleep(LOOK).await;
        }
        tracing::info!("the engine responds again");
    }
}
