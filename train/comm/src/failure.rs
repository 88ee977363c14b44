//! What ends the communication of all ranks.

use crate::Group;

/// Why ranks no longer communicate. All ranks get the first failure of any of them; nothing can be sent after it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A rank panicked.
    #[error(
        "rank {rank} panicked; its own output says why. All ranks stop; start the job again to continue from the last checkpoint"
    )]
    Panicked {
        /// The rank.
        rank: usize,
    },
    /// A rank dropped its communicator before all were done.
    #[error(
        "rank {rank} ended early; its own output says why. All ranks stop; start the job again to continue from the last checkpoint"
    )]
    Left {
        /// The rank.
        rank: usize,
    },
    /// A rank reported an error.
    #[error("rank {rank} failed: {reason}")]
    Reported {
        /// The rank.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// Ranks did not take part in a collective in time.
    #[error(
        "rank {rank} waited {seconds} s for {missing} to call {call} ({group}); see what {missing} did last, or allow more time"
    )]
    Late {
        /// The rank that waited.
        rank: usize,
        /// The ranks that did not come.
        missing: String,
        /// What was called.
        call: String,
        /// Who must call it.
        group: Group,
        /// How long it waited.
        seconds: f64,
    },
    /// Two ranks of a group called different collectives.
    #[error(
        "rank {rank} called {call}, but rank {other} called {other_call} ({group}); all of them must call the same, so start every \
         rank with the same program and settings"
    )]
    Mismatch {
        /// The rank that noticed.
        rank: usize,
        /// What it called.
        call: String,
        /// Another rank.
        other: usize,
        /// What that rank called.
        other_call: String,
        /// Who must call the same.
        group: Group,
    },
    /// Ranks cannot be set up as asked.
    #[error("{0}")]
    Setup(String),
    /// The communication thread panicked: a bug.
    #[error("the communication thread of rank {rank} panicked; its own output says why")]
    Thread {
        /// The rank.
        rank: usize,
    },
}

/// Ranks as a text: `rank 3`, or `ranks 1, 2 and 3`.
pub(crate) fn name(ranks: &[usize]) -> String {
    match ranks {
        [rank] => format!("rank {rank}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(usize::to_string).collect();
            format!("ranks {} and {last}", first.join(", "))
        }
        [] => "no rank".to_owned(),
    }
}
