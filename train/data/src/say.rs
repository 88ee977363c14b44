//! What the program says beside its results, on stderr.

use std::fmt::Display;
use std::io::Write;

/// Says a line. If nobody listens any more, the work goes on: a log that was closed must not cost a training its last minutes.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
