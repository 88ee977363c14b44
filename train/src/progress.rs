//! Progress bars on stderr.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar over `length` items.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} left {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The progress bar of a run of `steps` updates, at `step`.
pub(crate) fn run_bar(steps: u64, step: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_position(step);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} left {eta} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.reset_eta();
    bar
}
