//! The device that decodes, or how far its program is loaded.

use leptos::prelude::*;

use super::decoder_text;
use super::text::{flag, text};
use crate::controller::app;
use crate::decoder::DecoderState;

#[component]
pub fn DecoderChip() -> impl IntoView {
    let decoder = app().decoder;
    let is = move |check: fn(&DecoderState) -> bool| decoder.with(check);
    let busy = move || {
        is(|state| {
            matches!(state, DecoderState::Waiting | DecoderState::Loading { .. } | DecoderState::Starting(_))
        })
    };
    view! {
        <p
            class="device"
            data-testid="device"
            data-ready=flag(move || is(|state| matches!(state, DecoderState::Ready { .. })))
            class:busy=busy
            class:failed=move || is(|state| matches!(state, DecoderState::Failed(_)))
            style:--share=move || format!("{:.1}%", decoder.with(decoder_text::share))
            title=text(move || decoder.with(decoder_text::long))
        >
            {text(move || decoder.with(decoder_text::short))}
        </p>
    }
}
