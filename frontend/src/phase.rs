//! Where the page stands, from where its parts stand.

use crate::decoder::DecoderState;
use crate::generation::Stage;

/// Where the page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the server's description of its model.
    Loading,
    /// Ready.
    Idle,
    /// Asked for, but not begun.
    Queued,
    /// Tokens arrive.
    Running,
    /// All tokens are here, not yet all pixels.
    Decoding,
    /// Done.
    Finished,
    /// Stopped by the person, or by the server because it was not followed.
    Cancelled,
    /// Ended by a problem.
    Failed,
}

impl Phase {
    /// Before the model is known: loading, unless that failed.
    pub fn without_model(failed: bool) -> Self {
        if failed { Self::Failed } else { Self::Loading }
    }

    /// With the model known. `settled`: every large image is decoded as far as its tokens are complete.
    pub fn of(stage: Stage, settled: bool, decoder: &DecoderState) -> Self {
        match stage {
            Stage::Idle => Self::Idle,
            Stage::Queued => Self::Queued,
            Stage::Running => Self::Running,
            Stage::Complete if settled => Self::Finished,
            Stage::Complete if matches!(decoder, DecoderState::Failed(_)) => Self::Failed,
            Stage::Complete => Self::Decoding,
            Stage::Cancelled => Self::Cancelled,
            Stage::Failed => Self::Failed,
        }
    }

    /// Name in the page's `data-state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Running | Self::Decoding => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether there is something to stop.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::WorkerFailure;

    use super::*;
    use crate::problem::Problem;

    #[test]
    fn a_generation_is_finished_when_its_last_pixels_are_shown_and_fails_with_its_decoder() {
        let waiting = DecoderState::Waiting;
        let failed = DecoderState::Failed(Problem::Decoder(WorkerFailure::Fault, "m".into()));
        assert_eq!(Phase::of(Stage::Complete, false, &waiting), Phase::Decoding);
        assert_eq!(Phase::of(Stage::Complete, true, &waiting), Phase::Finished);
        assert_eq!(Phase::of(Stage::Complete, false, &failed), Phase::Failed);
        assert_eq!(Phase::of(Stage::Complete, true, &failed), Phase::Finished, "it was needed no more");
        assert_eq!(Phase::of(Stage::Running, false, &failed), Phase::Running, "tokens arrive without it");
    }
}
