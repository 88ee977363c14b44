//! What [`Generation::on`](super::Generation::on) takes and returns.

use dalle_shared::{GenerationCreated, GenerationRequest};

use crate::follower::{self, Signal};
use crate::problem::Problem;
use crate::session::{Prompt, Session};
use crate::ticket::Ticket;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The person asks for images.
    Begin(Prompt),
    /// Show what this tab stored for a prompt: the result of a finished generation, or one to follow to its end.
    Restore(Prompt, Session),
    /// Send the latest request again.
    Again,
    /// Follow the generation again after its connection was lost.
    Reconnect,
    /// Cancel the generation.
    Stop,
    /// The person prefers an image to the best, or no longer.
    Prefer(usize),
    /// Answer to [`Effect::Create`].
    Created(Ticket, Result<GenerationCreated, Problem>),
    /// Something happened to the stream of [`Effect::Open`].
    Signal(Ticket, Signal),
    /// The time of an [`Effect::Wait`] is over.
    Elapsed(Ticket),
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this request.
    Create(Ticket, GenerationRequest),
    /// Cancel the generation with this id on the server.
    Cancel(String),
    /// Open an event stream in place of the one that is open.
    Open {
        /// Names the answers.
        ticket: Ticket,
        /// Address of the stream, relative to the backend's base address.
        events: String,
        /// Number of the last event received.
        after: Option<u64>,
    },
    /// Close the event stream.
    Close,
    /// Send [`Input::Elapsed`] after so many milliseconds.
    Wait(Ticket, f64),
    /// Store the session for this tab.
    Store(Session),
    /// Remove the stored session.
    Forget,
    /// Show empty images for the prompt.
    Display,
    /// There are more tokens to show.
    ShowTokens,
    /// Other images are shown large, or their order or scores changed.
    ShowRanking,
}

impl From<follower::Effect> for Effect {
    fn from(effect: follower::Effect) -> Self {
        match effect {
            follower::Effect::Open { ticket, events, after } => Self::Open { ticket, events, after },
            follower::Effect::Close => Self::Close,
            follower::Effect::Wait(ticket, ms) => Self::Wait(ticket, ms),
        }
    }
}
