//! The settings of a server, and their defaults.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;

/// Settings of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Folder of the page.
    pub site: Option<PathBuf>,
    /// Number of generations that may wait.
    pub queue: usize,
    /// Number of samples that advance together. At least [`MAX_SAMPLES`](dalle_shared::MAX_SAMPLES) are used, so that every request
    /// fits.
    pub max_rows: usize,
    /// An unfinished generation that no client watches is cancelled after this time.
    pub grace: Duration,
    /// Time limit of the Images API, after which it returns 503.
    pub images_timeout: Duration,
    /// Time that running generations have to finish when the server stops.
    pub drain: Duration,
    /// An engine that has work and makes no progress for this long counts as stalled.
    pub stall_timeout: Duration,
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of connections per address [default: 256, and no limit for the local machine].
    pub connections_per_address: Option<usize>,
    /// A connection is closed if its client reads nothing for this long.
    pub write_timeout: Duration,
    /// The log of an ended generation can be read for this long, …
    pub kept_age: Duration,
    /// … unless all generations together exceed this many bytes: then the oldest ended ones are forgotten.
    pub kept_bytes: usize,
    /// Origins of pages hosted elsewhere.
    pub origins: Vec<HeaderValue>,
    /// Host names of the server, besides `localhost` and IP addresses; `*` for any name. If there are none, a server on a loopback
    /// address accepts no other names, and any other server accepts all names.
    pub hosts: Vec<String>,
}

impl Default for Options {
    /// The defaults of the command line.
    fn default() -> Self {
        Self {
            site: None,
            queue: 16,
            max_rows: 32,
            grace: Duration::from_secs(10),
            images_timeout: Duration::from_secs(600),
            drain: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            max_connections: 1024,
            connections_per_address: None,
            write_timeout: Duration::from_secs(30),
            kept_age: Duration::from_secs(600),
            kept_bytes: 64 << 20,
            origins: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

impl Options {
    /// Number of rows of the batch.
    pub fn rows(&self) -> usize {
        self.max_rows.max(dalle_shared::MAX_SAMPLES)
    }
}
