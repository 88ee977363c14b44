//! The word that something was copied.

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

/// How long a button says that something is copied.
const COPIED_MS: u32 = 3_000;

/// Sets `copied` for a while once `copying` has succeeded.
pub fn say_copied(copied: RwSignal<bool>, copying: JsFuture) {
    spawn_local(async move {
        if copying.await.is_ok() {
            // The button may be gone by then.
            copied.try_set(true);
            TimeoutFuture::new(COPIED_MS).await;
            copied.try_set(false);
        }
    });
}
