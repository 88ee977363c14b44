//! Commands to the engine's thread.

use dalle_shared::ImageToken;
use tokio::sync::oneshot;

/// A command from an [`EngineHandle`](super::EngineHandle) to the thread.
pub enum Command {
    /// A job is in the queue.
    Wake,
    /// Decode or encode an image.
    Convert(Conversion),
    /// Stop after the current step.
    Stop,
}

/// An image to decode or encode. There are at most as many as clients that wait for one.
pub enum Conversion {
    /// Tokens to pixels.
    Decode {
        /// The tokens.
        tokens: Vec<ImageToken>,
        /// Receives the pixels, RGB8.
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// Pixels to tokens.
    Encode {
        /// The pixels, RGB8.
        pixels: Vec<u8>,
        /// Receives the tokens.
        reply: oneshot::Sender<Vec<ImageToken>>,
    },
}
