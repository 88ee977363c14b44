//! Faults of one server, and of training: clients that hold connections, overload, crashes, lost connections, damaged and hostile
//! files. The tests run the built programs as processes.
//!
//! The loops are short, so that all tests together take less than five minutes. With `DALLE_LONG=1` (`scripts/test --long faults`)
//! they are long.

mod clients;
mod damaged;
#[allow(dead_code, reason = "the tests in the browser use the rest")]
#[path = "../browser/fixture/mod.rs"]
mod fixture;
mod hostile;
mod interrupted;
mod killed;
mod neighbours;
mod overload;
mod proxy;
mod requests;

/// A number of repetitions: `short`, or `long` with `DALLE_LONG=1`.
fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("DALLE_LONG").is_some_and(|value| value == "1") { long } else { short }
}
