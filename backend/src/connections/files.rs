//! The limit of open files. A connection uses one file descriptor, and another one while it is sent a file of the page.

use super::limits::RESERVE;

/// File descriptors that the server needs besides those of connections.
const OTHERS: usize = 128;

/// Raises the soft limit of open files for `connections`, up to the hard limit. Returns the number of connections that fit, and logs
/// a warning if they are fewer.
pub fn make_room(connections: usize) -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let needed = 2 * (connections + RESERVE) + OTHERS;
        let files =
            |limit: Option<u64>| limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut limit = getrlimit(Resource::Nofile);
        if files(limit.current) < needed {
            limit.current = Some(files(limit.maximum).min(needed) as u64);
            // If this fails, the old limit is read next.
            let _ = setrlimit(Resource::Nofile, limit);
        }
        let files = files(getrlimit(Resource::Nofile).current);
        if files < needed {
            let fit = fitting(files);
            tracing::warn!(
                "the limit of open files, {files}, allows {fit} of {connections} connections; raise it to {needed} with `ulimit -n`"
            );
            return fit;
        }
    }
    connections
}

/// Number of connections that `files` file descriptors allow; at least one.
#[cfg(unix)]
fn fitting(files: usize) -> usize {
    (files.saturating_sub(OTHERS) / 2).saturating_sub(RESERVE).max(1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_connection_limit_leaves_files_for_the_reserve_and_the_server() {
        assert_eq!(fitting(2 * (1024 + RESERVE) + OTHERS), 1024);
        assert_eq!(fitting(1024), 416);
        assert_eq!(fitting(3), 1);
    }
}
