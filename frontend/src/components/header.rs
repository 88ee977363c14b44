//! The bar at the top: name, model, decoding device, light or dark.

use dalle_shared::{DecoderDevice, DecoderPart};
use leptos::prelude::*;

use crate::browser;
use crate::decoder::DecoderState;
use crate::format;
use crate::state::app;

#[component]
pub fn Header() -> impl IntoView {
    let app = app();
    let model = move || app.model.with(|model| model.as_ref().map(|model| model.manifest.name.clone()));
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
            <p class="model">{model}</p>
            <Device/>
            <Theme/>
        </header>
    }
}

/// What decodes, or how far it is loaded.
#[component]
fn Device() -> impl IntoView {
    let app = app();
    let share = move || match app.decoder.get() {
        DecoderState::Loading { loaded, total: Some(total), .. } if total > 0 => {
            format!("{:.1}%", loaded as f64 / total as f64 * 100.0)
        }
        DecoderState::Waiting | DecoderState::Loading { .. } => "0%".to_owned(),
        _ => "100%".to_owned(),
    };
    let busy = move || {
        app.decoder.with(|state| {
            matches!(state, DecoderState::Waiting | DecoderState::Loading { .. } | DecoderState::Starting(_))
        })
    };
    view! {
        <p
            class="device"
            data-testid="device"
            data-ready=move || app.decoder.with(|state| matches!(state, DecoderState::Ready { .. })).to_string()
            class:busy=busy
            class:failed=move || app.decoder.with(|state| matches!(state, DecoderState::Failed(_)))
            style:--share=share
            title=move || app.decoder.with(explain)
        >
            {move || app.decoder.with(describe)}
        </p>
    }
}

fn describe(state: &DecoderState) -> String {
    match state {
        DecoderState::Waiting => "Decoder: waiting".to_owned(),
        DecoderState::Loading { part, loaded, total } => {
            let what = match part {
                DecoderPart::Program => "Decoder",
                DecoderPart::Weights => "Weights",
                DecoderPart::Encoder => "Encoder",
            };
            match total {
                Some(total) => format!("{what}: {} of {}", format::bytes(*loaded), format::bytes(*total)),
                None => format!("{what}: {}", format::bytes(*loaded)),
            }
        }
        DecoderState::Starting(device) => format!("Warming up {}", name(device)),
        DecoderState::Ready { device, .. } => name(device),
        DecoderState::Failed(_) => "No decoder".to_owned(),
    }
}

fn name(device: &DecoderDevice) -> String {
    match device {
        DecoderDevice::Webgpu { adapter } => format!("WebGPU: {adapter}"),
        DecoderDevice::Cpu { .. } => "CPU (wasm SIMD)".to_owned(),
    }
}

fn explain(state: &DecoderState) -> String {
    match state {
        DecoderState::Ready { device, decode_ms } => {
            let why = match device {
                DecoderDevice::Cpu { why } => format!(", because {why}"),
                DecoderDevice::Webgpu { .. } => String::new(),
            };
            format!(
                "Tokens become pixels in this browser on {}{why}. A picture takes {decode_ms:.0} ms.",
                name(device)
            )
        }
        _ => "The decoder turns tokens into pixels in this browser.".to_owned(),
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
            aria-pressed=move || dark.get().to_string()
            on:click=toggle
        >
            <svg viewBox="0 0 24 24" aria-hidden="true">
                <circle cx="12" cy="12" r="8.5"/>
                <path class="solid" d="M12 3.5a8.5 8.5 0 0 1 0 17z"/>
            </svg>
        </button>
    }
}
