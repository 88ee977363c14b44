//! The append-only log of a generation.
//!
//! The engine appends, and any number of viewers read from any position: streaming, resuming, a second viewer and replay are the
//! same read. Ending the log ends the job: nothing is appended after a last event, and before its next step the engine removes jobs
//! whose log has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dalle_shared::{EventKind, GenerationEvent, GenerationState, ImageToken};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The log of a generation.
pub struct Log {
    entries: Mutex<Entries>,
    /// Number of entries, for viewers to wait on.
    length: watch::Sender<usize>,
    /// Bytes of all jobs, including this log's.
    memory: Arc<AtomicUsize>,
}

struct Entries {
    events: Vec<GenerationEvent>,
    ended: Option<Instant>,
    bytes: usize,
    /// Dropped with the last event.
    unfinished: Option<TaskTrackerToken>,
}

impl Log {
    /// The empty log of a waiting job that takes `bytes` itself. Both count in `memory` until the log is dropped.
    pub fn new(bytes: usize, memory: Arc<AtomicUsize>) -> Self {
        memory.fetch_add(bytes, Ordering::Relaxed);
        let entries = Entries { events: Vec::new(), ended: None, bytes, unfinished: None };
        Self { entries: Mutex::new(entries), length: watch::Sender::new(0), memory }
    }

    /// Appends an event and returns true, or returns false if the log has ended.
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
        let bytes = bytes(&kind);
        entries.bytes += bytes;
        self.memory.fetch_add(bytes, Ordering::Relaxed);
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

    /// The events starting at position `from`, and whether the log has ended.
    pub fn read(&self, from: usize) -> (Vec<GenerationEvent>, bool) {
        let entries = self.entries.lock();
        (entries.events.get(from..).unwrap_or_default().to_vec(), entries.ended.is_some())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        *self.length.borrow()
    }

    /// Bytes of the job and its log.
    pub fn bytes(&self) -> usize {
        self.entries.lock().bytes
    }

    /// Time of the last event; None while the job waits or runs.
    pub fn ended(&self) -> Option<Instant> {
        self.entries.lock().ended
    }

    /// The number of events, which changes with every append.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }

    /// State of the generation.
    pub fn state(&self) -> GenerationState {
        match self.entries.lock().events.last().map(|event| &event.kind) {
            None => GenerationState::Queued,
            Some(EventKind::Finished { .. }) => GenerationState::Finished,
            Some(EventKind::Cancelled) => GenerationState::Cancelled,
            Some(EventKind::Failed { .. }) => GenerationState::Failed,
            Some(
                EventKind::Started | EventKind::Tokens { .. } | EventKind::Scored { .. } | EventKind::Unknown,
            ) => GenerationState::Running,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.entries.get_mut().bytes, Ordering::Relaxed);
    }
}

/// Memory of an event.
fn bytes(kind: &EventKind) -> usize {
    let content = match kind {
        EventKind::Tokens { tokens, .. } => {
            tokens.iter().map(|row| size_of::<Vec<ImageToken>>() + size_of_val(&**row)).sum()
        }
        EventKind::Failed { error } => error.message.len(),
        _ => 0,
    };
    size_of::<GenerationEvent>() + content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_its_memory_until_it_is_dropped() {
        let memory = Arc::new(AtomicUsize::new(7));
        let log = Log::new(100, Arc::clone(&memory));
        let tokens = vec![vec![ImageToken(0); 256]; 9];
        log.append(EventKind::Tokens { start: 0, tokens });
        assert!((100 + 9 * 512..6000).contains(&log.bytes()), "{}", log.bytes());
        assert_eq!(memory.load(Ordering::Relaxed), 7 + log.bytes());
        drop(log);
        assert_eq!(memory.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn numbers_without_gaps_and_ends_once() {
        let log = Log::new(0, Arc::default());
        assert_eq!(log.state(), GenerationState::Queued);
        assert!(log.append(EventKind::Started));
        assert_eq!(log.state(), GenerationState::Running);
        assert!(log.append(EventKind::Cancelled));
        assert!(!log.append(EventKind::Finished { seconds: 1.0 }), "nothing is appended to an ended log");
        assert_eq!(log.state(), GenerationState::Cancelled);
        let (events, ended) = log.read(0);
        assert!(ended);
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(log.read(1).0.len(), 1);
        assert!(log.read(2).0.is_empty());
        assert!(log.read(99).0.is_empty());
    }
}
