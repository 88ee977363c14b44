//! The device that decodes, or how far its program is loaded.

use leptos::prelude::*;

use super::decoder_text;
use crate::decoder::DecoderState;
use crate::state::app;

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
            data-ready=move || is(|state| matches!(state, DecoderState::Ready { .. })).to_string()
            class:busy=busy
            class:failed=move || is(|state| matches!(state, DecoderState::Failed(_)))
            style:--share=move || format!("{:.1}%", decoder.with(decoder_text::share))
            title=move || decoder.with(decoder_text::long)
        >
            {move || decoder.with(decoder_text::short)}
        </p>
    }
}
