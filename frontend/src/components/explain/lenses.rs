//! The lenses: tabs, and the one that is shown.

use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

use super::super::text::flag;
use super::attention::AttentionLens;
use super::codes::Codes;
use super::decoder::DecoderLens;
use super::picture::PictureLens;
use super::probabilities::Probabilities;
use crate::browser;
use crate::controller::controller;
use crate::explain::Lens;

/// Each lens with its tab's id and text.
const TABS: [(Lens, &str, &str); 5] = [
    (Lens::Probabilities, "tab-probabilities", "Probabilities"),
    (Lens::Attention, "tab-attention", "Attention"),
    (Lens::Decoder, "tab-decoder", "Decoder"),
    (Lens::Codebook, "tab-codebook", "Codebook"),
    (Lens::Picture, "tab-picture", "Your picture"),
];

#[component]
pub fn Lenses() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let choose = move |lens: Lens| {
        explain.lens.set(lens);
        controller.ask(explain.ask_lens());
    };
    let tab = move |index: usize| {
        let (lens, id, label) = TABS[index];
        let keys = move |event: KeyboardEvent| {
            let next = match event.key().as_str() {
                "ArrowLeft" => (index + TABS.len() - 1) % TABS.len(),
                "ArrowRight" => (index + 1) % TABS.len(),
                _ => return,
            };
            event.prevent_default();
            choose(TABS[next].0);
            browser::focus(TABS[next].1);
        };
        view! {
            <button
                type="button"
                role="tab"
                class="tab"
                id=id
                data-testid=id
                aria-controls="lens"
                aria-selected=flag(move || explain.lens.get() == lens)
                tabindex=move || if explain.lens.get() == lens { "0" } else { "-1" }
                on:click=move |_| choose(lens)
                on:keydown=keys
            >
                {label}
            </button>
        }
    };
    let shown =
        move || TABS.iter().find(|(lens, ..)| *lens == explain.lens.get()).map_or("", |(_, id, _)| id);
    view! {
        <div class="tabs" role="tablist" aria-label="Lenses">{std::array::from_fn::<_, { TABS.len() }, _>(tab)}</div>
        <div class="lens" id="lens" role="tabpanel" aria-labelledby=shown>
            {move || match explain.lens.get() {
                Lens::Probabilities => view! { <Probabilities/> }.into_any(),
                Lens::Attention => view! { <AttentionLens/> }.into_any(),
                Lens::Decoder => view! { <DecoderLens/> }.into_any(),
                Lens::Codebook => view! { <Codes/> }.into_any(),
                Lens::Picture => view! { <PictureLens/> }.into_any(),
            }}
        </div>
    }
}
