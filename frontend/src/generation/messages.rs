//! What [`Generation::on`](super::Generation::on) takes and returns.

use dalle_shared::{GenerationCreated, GenerationRequest};

use crate::follower::{self, Signal};
use crate::problem::Problem;
use crate::session::{Prompt, Session};
use crate::ticket::Ticket;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum GenerationInput {
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
    /// Show no images.
    Clear,
    /// The person prefers an image to the best, or no longer.
    Prefer(usize),
    /// Answer to [`GenerationEffect::Create`].
    Created(Ticket, Result<GenerationCreated, Problem>),
    /// Answer to [`GenerationEffect::AskPlace`]: how many generations are before it.
    Place(Ticket, Option<usize>),
    /// Something happened to the stream of [`GenerationEffect::Open`].
    Signal(Ticket, Signal),
    /// The time of an [`GenerationEffect::Wait`] is over.
    Elapsed(Ticket),
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum GenerationEffect {
    /// Send this request.
    Create(Ticket, GenerationRequest),
    /// Cancel the generation with this id on the server.
    Cancel(String),
    /// Ask the server for the place of the generation with this id in its queue.
    AskPlace(Ticket, String),
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
    /// Send [`GenerationInput::Elapsed`] after so many milliseconds.
    Wait(Ticket, f64),
    /// Store the session for this tab.
    Store(Session),
    /// Remove the stored session.
    Forget,
    /// Show empty images for the prompt, or none without a prompt.
    Display,
    /// There are more tokens to show.
    ShowTokens,
    /// Other images are shown large, or their order or scores changed.
    ShowRanking,
}

impl From<follower::FollowerEffect> for GenerationEffect {
    fn from(effect: follower::FollowerEffect) -> Self {
        match effect {
            follower::FollowerEffect::Open { ticket, events, after } => Self::Open { ticket, events, after },
            follower::FollowerEffect::Close => Self::Close,
            follower::FollowerEffect::Wait(ticket, ms) => Self::Wait(ticket, ms),
        }
    }
}
