//! Commands to the engine's thread.

use dalle_shared::ImageToken;
use tokio::sync::oneshot;

/// A command from an [`EngineHandle`](super::EngineHandle) to the thread.
pub enum Command {
    /// A job is in the queue.
    Wake,
    /// Decode an image.
    Decode(Decode),
    /// Stop after the current step.
    Stop,
}

/// An image to decode. There are at most as many as images of finished jobs whose client is still waiting.
pub struct Decode {
    /// Its tokens.
    pub tokens: Vec<ImageToken>,
    /// Receives the pixels, RGB8.
    pub reply: oneshot::Sender<Vec<u8>>,
}
