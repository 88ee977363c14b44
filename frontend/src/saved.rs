//! A generation in the history.

use serde::{Deserialize, Serialize};

use crate::link::Link;
use crate::session::Session;

/// A finished generation, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The generation.
    pub session: Session,
    /// Whether the person marked it as a favourite.
    #[serde(default)]
    pub favourite: bool,
}

impl Saved {
    /// When it was asked for, which names it.
    pub fn key(&self) -> u64 {
        self.session.asked_at as u64
    }

    /// What it was asked for.
    pub fn link(&self) -> Option<Link> {
        Link::from_fragment(&self.session.link)
    }

    /// Whether it consists of the same images.
    pub fn is_like(&self, other: &Self) -> bool {
        let tokens = |saved: &Self| saved.session.result.as_ref().map(|result| result.tokens.clone());
        self.session.link == other.session.link && tokens(self) == tokens(other)
    }
}
