//! The bar at the top: name, model, decoder, light or dark.

use leptos::prelude::*;

use super::decoder_chip::DecoderChip;
use super::text::{flag, text};
use crate::browser;
use crate::controller::app;
use crate::place::Place;

#[component]
pub fn Header() -> impl IntoView {
    let app = app();
    let model = text(move || {
        app.model.with(|model| match model {
            Some(model) if app.place.get() == Place::Browser => {
                format!("{}, in this browser", model.manifest.name)
            }
            Some(model) => model.manifest.name.clone(),
            None => String::new(),
        })
    });
    view! {
        <header class="top">
            <h1>
                <svg class="mark" viewBox="0 0 6 6" aria-hidden="true">
                    <path class="a" d="M0 0h2v2h-2zM4 2h2v2h-2zM2 4h2v2h-2z"/>
                    <path class="b" d="M2 0h2v2h-2zM0 4h2v2h-2z"/>
                    <path class="c" d="M4 0h2v2h-2zM2 2h2v2h-2z"/>
                    <path class="d" d="M0 2h2v2h-2zM4 4h2v2h-2z"/>
                </svg>
                "DALL·E"
            </h1>
            <p class="model" data-testid="model">{model}</p>
            <DecoderChip/>
            <Theme/>
        </header>
    }
}

/// Light, dark, or as the system says; `theme.js` applies the choice before the first paint.
#[component]
fn Theme() -> impl IntoView {
    let root = move || document().document_element();
    let is_dark = move || {
        let chosen = root().and_then(|root| root.get_attribute("data-theme"));
        match chosen.as_deref() {
            Some(theme) => theme == "dark",
            None => window()
                .match_media("(prefers-color-scheme: dark)")
                .ok()
                .flatten()
                .is_some_and(|query| query.matches()),
        }
    };
    let dark = RwSignal::new(is_dark());
    let toggle = move |_| {
        let theme = if is_dark() { "light" } else { "dark" };
        if let Some(root) = root() {
            let _ = root.set_attribute("data-theme", theme);
        }
        if let Some(storage) = browser::local_storage() {
            let _ = storage.set_item("dalle.theme", theme);
        }
        dark.set(theme == "dark");
    };
    view! {
        <button
            class="icon theme"
            type="button"
            aria-label="Dark colours"
            aria-pressed=flag(move || dark.get())
            on:click=toggle
        >
            <svg viewBox="0 0 24 24" aria-hidden="true">
                <circle cx="12" cy="12" r="8.5"/>
                <path class="solid" d="M12 3.5a8.5 8.5 0 0 1 0 17z"/>
            </svg>
        </button>
    }
}
