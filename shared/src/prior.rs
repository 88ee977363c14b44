//! Messages between the page and its prior worker, which samples without a server.
//!
//! A message is a two-element array `[json, null]`: the JSON of a [`PriorCommand`] or [`PriorReport`].

use serde::{Deserialize, Serialize};

use crate::worker::{WorkerFailure, WorkerPart, WorkerReport};
use crate::{
    Attention, GenerationEvent, GenerationRequest, ModelFile, SamplingSettings, TokenChoices, TokenStep,
};

/// Page to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PriorCommand {
    /// The first message: fetch, check and load the prior of a model. Answered by one [`PriorReport::Ready`].
    Load {
        /// The base URL of the files.
        base: String,
        /// The manifest's files.
        files: Vec<ModelFile>,
    },
    /// Sample images. Answered by the events of a server's event stream, each a [`PriorReport::Event`] with the same ticket.
    Generate {
        /// Identifies the events.
        ticket: u64,
        /// The request. Its model is the one that was loaded.
        request: GenerationRequest,
    },
    /// Read an image again and describe how each of its tokens was chosen. Replaces the image that was read before. Answered by
    /// [`PriorReport::Traced`], a row at a time.
    Trace {
        /// Identifies the reports.
        ticket: u64,
        /// Caption, seed and settings of the image alone, and its tokens as the prefix.
        request: GenerationRequest,
    },
    /// What could have come at a position of the image that was read last, with any settings. Answered by one
    /// [`PriorReport::Choices`], when the position has been read.
    Choices {
        /// The ticket of the image.
        ticket: u64,
        /// Raster position.
        position: usize,
        /// The settings, which need not be those of the image.
        settings: SamplingSettings,
        /// How many tokens to name.
        most: usize,
    },
    /// What a layer attends to when it predicts the token at a position of the image that was read last. Answered by one
    /// [`PriorReport::Attention`].
    Attend {
        /// The ticket of the image.
        ticket: u64,
        /// Raster position.
        position: usize,
        /// The layer, from 0.
        layer: usize,
    },
    /// End a generation. No more events of it follow.
    Cancel {
        /// The ticket of the generation.
        ticket: u64,
    },
}

/// Worker to page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PriorReport {
    /// Progress of a download.
    Progress {
        /// The file.
        part: WorkerPart,
        /// Bytes received.
        loaded: u64,
        /// Bytes expected, if known.
        total: Option<u64>,
    },
    /// The prior samples from now on.
    Ready,
    /// An event of a generation. The tokens of an event are a whole row of the grid, so that the same request always gives the same
    /// events, however fast the machine is.
    Event {
        /// The ticket of the command.
        ticket: u64,
        /// The event.
        event: GenerationEvent,
    },
    /// How some tokens of an image were chosen.
    Traced {
        /// The ticket of the command.
        ticket: u64,
        /// Raster position of the first of them.
        start: usize,
        /// One for each token.
        steps: Vec<TokenStep>,
    },
    /// What could have come at a position.
    Choices {
        /// The ticket of the image.
        ticket: u64,
        /// Raster position.
        position: usize,
        /// The settings of the command.
        settings: SamplingSettings,
        /// The tokens.
        choices: TokenChoices,
    },
    /// What a layer attends to.
    Attention {
        /// The ticket of the image.
        ticket: u64,
        /// Raster position.
        position: usize,
        /// The layer, from 0.
        layer: usize,
        /// The weights.
        attention: Attention,
    },
    /// An image that could not be read again.
    NotTraced {
        /// The ticket of the command.
        ticket: u64,
        /// What happened, in a sentence.
        message: String,
    },
    /// The worker has failed and accepts no more commands.
    Failed {
        /// The kind of failure, for the remedy.
        reason: WorkerFailure,
        /// What happened, in a sentence.
        message: String,
    },
}

impl From<WorkerReport> for PriorReport {
    fn from(report: WorkerReport) -> Self {
        match report {
            WorkerReport::Progress { part, loaded, total } => Self::Progress { part, loaded, total },
            WorkerReport::Failed { reason, message } => Self::Failed { reason, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecoderReport;

    /// `worker.js` writes these two reports itself.
    #[test]
    fn reports_of_the_bootstrap_script_are_understood() {
        let progress = r#"{"type":"progress","part":"program","loaded":7,"total":null}"#;
        let expected = WorkerReport::Progress { part: WorkerPart::Program, loaded: 7, total: None };
        check(progress, &expected);
        let failed = r#"{"type":"failed","reason":"download","message":"m"}"#;
        check(failed, &WorkerReport::Failed { reason: WorkerFailure::Download, message: "m".into() });
    }

    fn check(json: &str, expected: &WorkerReport) {
        assert_eq!(serde_json::from_str::<WorkerReport>(json).unwrap(), *expected);
        assert_eq!(serde_json::from_str::<DecoderReport>(json).unwrap(), expected.clone().into());
        assert_eq!(serde_json::from_str::<PriorReport>(json).unwrap(), expected.clone().into());
    }
}
