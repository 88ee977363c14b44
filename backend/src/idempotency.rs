//! `Idempotency-Key`: a request that is sent again with its key joins the generation that it started the first time.
//!
//! A client whose connection broke cannot know whether its request was received. With a key it can send the request again without
//! starting a second generation.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use axum::http::{HeaderMap, HeaderName};
use dalle_shared::{GenerationState, sha256_hex};
use parking_lot::Mutex;

use crate::error_response::ErrorResponse;
use crate::jobs::Job;

/// Name of the header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Maximum length of a key in bytes.
const MAX_KEY: usize = 255;
/// Number of entries from which those of forgotten jobs are looked for.
const SWEEP: usize = 256;

/// The key of a request, and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatKey {
    key: String,
    /// Hash of the request's path and body.
    request: String,
}

impl RepeatKey {
    /// The key in the headers of a request; None if there is none.
    ///
    /// # Errors
    /// It is empty, too long, or not ASCII.
    pub fn of(headers: &HeaderMap, path: &str, body: &[u8]) -> Result<Option<Self>, ErrorResponse> {
        let Some(value) = headers.get(&IDEMPOTENCY_KEY) else { return Ok(None) };
        match value.to_str() {
            Ok(key) if (1..=MAX_KEY).contains(&key.len()) => {
                let request = sha256_hex(&[path.as_bytes(), b"\n", body].concat());
                Ok(Some(Self { key: key.to_owned(), request }))
            }
            _ => {
                let message = format!("expected 1 to {MAX_KEY} ASCII characters, such as a UUID");
                Err(ErrorResponse::invalid("Idempotency-Key", message))
            }
        }
    }
}

/// The generations that were started with a key, as long as they are known.
#[derive(Default)]
pub struct Repeats {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    jobs: HashMap<String, (String, Weak<Job>)>,
    /// Number of entries at which forgotten jobs are looked for next.
    sweep_at: usize,
}

impl Repeats {
    /// The generation that was started with this key, if it still runs or has finished and `is_known`; otherwise the one that `admit`
    /// starts. Two requests that arrive together start one.
    ///
    /// # Errors
    /// The key was used for another request, or `admit` fails, which is not remembered.
    pub fn once(
        &self,
        repeat: &RepeatKey,
        is_known: impl Fn(&Job) -> bool,
        admit: impl FnOnce() -> Result<Arc<Job>, ErrorResponse>,
    ) -> Result<Arc<Job>, ErrorResponse> {
        let mut entries = self.entries.lock();
        let usable = |job: &Job| {
            !matches!(job.log.state(), GenerationState::Failed | GenerationState::Cancelled) && is_known(job)
        };
        let found = entries.jobs.get(&repeat.key).and_then(|(request, job)| Some((request, job.upgrade()?)));
        if let Some((request, job)) = found.filter(|(_, job)| usable(job)) {
            return if *request == repeat.request {
                Ok(job)
            } else {
                let message = "this key was already used for another request; use a new key for each request";
                Err(ErrorResponse::invalid("Idempotency-Key", message))
            };
        }
        let job = admit()?;
        if entries.jobs.len() >= entries.sweep_at.max(SWEEP) {
            entries.jobs.retain(|_, (_, job)| job.strong_count() > 0);
            entries.sweep_at = 2 * entries.jobs.len();
        }
        entries.jobs.insert(repeat.key.clone(), (repeat.request.clone(), Arc::downgrade(&job)));
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::EventKind;

    use super::*;
    use crate::jobs::tests::job;

    fn key(key: &str, body: &str) -> RepeatKey {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, key.parse().unwrap())]);
        RepeatKey::of(&headers, "/v1/generations", body.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_key_starts_one_generation_until_that_fails_or_is_forgotten() {
        let repeats = Repeats::default();
        let known = |_: &Job| true;
        let first = repeats.once(&key("a", "x"), known, || Ok(job(1))).unwrap();
        let again = repeats.once(&key("a", "x"), known, || panic!("nothing is started")).unwrap();
        assert_eq!(first.id, again.id);
        assert_ne!(repeats.once(&key("b", "x"), known, || Ok(job(1))).unwrap().id, first.id);
        let other = repeats.once(&key("a", "y"), known, || Ok(job(1))).err().unwrap();
        assert_eq!(other.error.field.as_deref(), Some("Idempotency-Key"));

        first.log.append(EventKind::Finished { seconds: 1.0 });
        assert_eq!(repeats.once(&key("a", "x"), known, || panic!("it has finished")).unwrap().id, first.id);
        let forgotten = repeats.once(&key("a", "x"), |_| false, || Ok(job(1))).unwrap();
        assert_ne!(forgotten.id, first.id);
        forgotten.cancel();
        assert_ne!(repeats.once(&key("a", "x"), known, || Ok(job(1))).unwrap().id, forgotten.id);
    }

    #[test]
    fn a_refusal_is_not_remembered_and_keys_of_forgotten_jobs_take_no_memory() {
        let repeats = Repeats::default();
        let refused = repeats.once(&key("a", "x"), |_| true, || Err(ErrorResponse::stopping()));
        assert!(refused.is_err());
        assert!(repeats.once(&key("a", "x"), |_| true, || Ok(job(1))).is_ok());
        for index in 0..10_000 {
            repeats.once(&key(&index.to_string(), "x"), |_| true, || Ok(job(1))).unwrap();
        }
        assert!(repeats.entries.lock().jobs.len() <= SWEEP);
    }

    #[test]
    fn a_key_is_short_ascii() {
        for (bad, length) in [("", 0), ("a", MAX_KEY + 1)] {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, bad.repeat(length).parse().unwrap())]);
            assert!(RepeatKey::of(&headers, "/", b"").is_err(), "{length}");
        }
        assert_eq!(RepeatKey::of(&HeaderMap::new(), "/", b""), Ok(None));
    }
}
