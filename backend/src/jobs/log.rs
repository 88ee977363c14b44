//! The append-only log of one generation.
//!
//! The engine appends, any number of viewers read from any position: streaming, resuming, a second viewer and replay
//! are the same read. Who ends the log ends the job: after a last event nothing is appended any more, and the engine
//! drops a job whose log has ended before its next step.

use std::time::Instant;

use dalle_shared::{EventKind, GenerationEvent, GenerationState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// See the module.
pub struct Log {
    entries: Mutex<Entries>,
    /// Number of entries, for viewers to wait on.
    length: watch::Sender<usize>,
}

#[derive(Default)]
struct Entries {
    events: Vec<GenerationEvent>,
    ended: Option<Instant>,
    /// Dropped with the last event.
    unfinished: Option<TaskTrackerToken>,
}

impl Log {
    /// An empty log: the job waits.
    pub fn new() -> Self {
        Self { entries: Mutex::default(), length: watch::Sender::new(0) }
    }

    /// Appends an event. False, and nothing appended, when the log has ended.
    pub fn append(&self, kind: EventKind) -> bool {
        let mut entries = self.entries.lock();
        if entries.ended.is_some() {
            return false;
        }
        if kind.is_last() {
            entries.ended = Some(Instant::now());
            entries.unfinished = None;
        }
        match kind {
            EventKind::Finished { .. } => metrics::counter!("dalle_finished_total").increment(1),
            EventKind::Failed { .. } => metrics::counter!("dalle_failed_total").increment(1),
            EventKind::Cancelled => metrics::counter!("dalle_cancelled_total").increment(1),
            _ => {}
        }
        let seq = entries.events.len() as u64;
        entries.events.push(GenerationEvent { seq, kind });
        self.length.send_replace(entries.events.len());
        true
    }

    /// Holds `token` until the log ends.
    pub fn hold_until_end(&self, token: TaskTrackerToken) {
        let mut entries = self.entries.lock();
        if entries.ended.is_none() {
            entries.unfinished = Some(token);
        }
    }

    /// The events from position `from` on, and whether the log has ended.
    pub fn read(&self, from: usize) -> (Vec<GenerationEvent>, bool) {
        let entries = self.entries.lock();
        (entries.events.get(from..).unwrap_or_default().to_vec(), entries.ended.is_some())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        *self.length.borrow()
    }

    /// When the last event was appended; none while the job waits or runs.
    pub fn ended(&self) -> Option<Instant> {
        self.entries.lock().ended
    }

    /// Changes with every append.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }

    /// Where the generation stands.
    pub fn state(&self) -> GenerationState {
        match self.entries.lock().events.last().map(|event| &event.kind) {
            None => GenerationState::Queued,
            Some(
                EventKind::Started | EventKind::Tokens { .. } | EventKind::Scored { .. } | EventKind::Unknown,
            ) => GenerationState::Running,
            Some(EventKind::Finished { .. }) => GenerationState::Finished,
            Some(EventKind::Cancelled) => GenerationState::Cancelled,
            Some(EventKind::Failed { .. }) => GenerationState::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_gaps_and_ends_once() {
        let log = Log::new();
        assert_eq!(log.state(), GenerationState::Queued);
        assert!(log.append(EventKind::Started));
        assert_eq!(log.state(), GenerationState::Running);
        assert!(log.append(EventKind::Cancelled));
        assert!(!log.append(EventKind::Finished { seconds: 1.0 }), "an ended log takes nothing");
        assert_eq!(log.state(), GenerationState::Cancelled);
        let (events, ended) = log.read(0);
        assert!(ended);
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(log.read(1).0.len(), 1);
        assert!(log.read(2).0.is_empty());
        assert!(log.read(99).0.is_empty());
    }
}
