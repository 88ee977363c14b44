//! Texts and flags that change.
//!
//! Leptos compiles each closure in a view apart, about 2 kB of WebAssembly for one. Signals of one type share that code.

use leptos::prelude::*;

/// A text that is computed again when a signal changes that it reads.
pub fn text(compute: impl Fn() -> String + Send + Sync + 'static) -> Signal<String> {
    Signal::derive(compute)
}

/// `true` or `false`, for an attribute.
pub fn flag(compute: impl Fn() -> bool + Send + Sync + 'static) -> Signal<String> {
    Signal::derive(move || compute().to_string())
}
