//! The number of files that the process may open, which every connection counts to.

/// Files that the server opens besides its connections.
const OTHERS: u64 = 128;

/// Raises the soft limit so that `connections` fit, as far as the hard limit lets it, and warns where it does not.
pub fn raise_limit(connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let needed = connections as u64 + OTHERS;
        let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
        if enough(limit.current) {
            return;
        }
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        let raised = setrlimit(Resource::Nofile, limit);
        if raised.is_err() || !enough(limit.current) {
            let limit = getrlimit(Resource::Nofile).current;
            tracing::warn!(
                limit,
                needed,
                "the limit of open files is too low for --max-connections; raise it with `ulimit -n {needed}`"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = connections;
}
