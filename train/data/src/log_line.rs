//! Messages on stderr.

use std::fmt::Display;
use std::io::Write;

/// Writes a line to stderr. A closed stderr is not an error: training goes on without its log.
pub fn log_line(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
