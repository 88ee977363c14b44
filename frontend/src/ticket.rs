//! Names that connect an effect of a state machine with its answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// A name that no other effect has. An answer with another name than the one waited for comes too late and is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// A new name.
    pub fn issue() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// It as a number, for messages to workers.
    pub fn number(self) -> u64 {
        self.0
    }
}
