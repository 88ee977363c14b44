//! The phase of the server, and the model once it is loaded.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::served::ServedModel;

/// A phase of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The engine is loading the model and warming up.
    Loading,
    /// Requests are admitted.
    Ready,
    /// The engine failed for this reason; the process is about to exit.
    Failed(String),
    /// The server is stopping: requests are not admitted.
    Stopping,
}

/// The server's phase and model.
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    model: OnceLock<Arc<ServedModel>>,
}

impl Lifecycle {
    /// The lifecycle of a server that is loading.
    pub fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Loading), model: OnceLock::new() }
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// The model, once it is loaded.
    pub fn model(&self) -> Option<Arc<ServedModel>> {
        self.model.get().cloned()
    }

    /// Sets the loaded model. The server is now ready.
    pub fn ready(&self, model: ServedModel) {
        // The name is from a file. Debug escapes control characters in it.
        tracing::info!(model = ?model.manifest.name, hash = %model.manifest.hash, "ready");
        self.model.get_or_init(|| Arc::new(model));
        self.change(Phase::Ready);
    }

    /// Records that the engine has failed.
    pub fn fail(&self, reason: String) {
        self.change(Phase::Failed(reason));
    }

    /// Records that the server is stopping.
    pub fn stop(&self) {
        self.change(Phase::Stopping);
    }

    /// Waits for a failure and returns its reason.
    pub async fn failed(&self) -> String {
        let mut phases = self.phase.subscribe();
        loop {
            if let Phase::Failed(reason) = &*phases.borrow_and_update() {
                return reason.clone();
            }
            if phases.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Changes the phase, but only forward: a model that finishes loading does not make a stopping server ready.
    fn change(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = matches!(
                (&*phase, &to),
                (Phase::Loading, _)
                    | (Phase::Ready, Phase::Failed(_) | Phase::Stopping)
                    | (Phase::Failed(_), Phase::Stopping)
            );
            if forward {
                *phase = to;
            }
            forward
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let lifecycle = Lifecycle::new();
        lifecycle.stop();
        lifecycle.change(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Stopping);
        lifecycle.fail("late".into());
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }

    #[tokio::test]
    async fn waiters_receive_a_failure() {
        let lifecycle = Arc::new(Lifecycle::new());
        let waiter = Arc::clone(&lifecycle);
        let waiting = tokio::spawn(async move { waiter.failed().await });
        lifecycle.change(Phase::Ready);
        lifecycle.fail("broken".into());
        assert_eq!(waiting.await.unwrap(), "broken");
    }
}
