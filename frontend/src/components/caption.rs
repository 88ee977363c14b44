//! The caption box, its examples and its tokens.

use leptos::prelude::*;

use super::chips::Chips;
use crate::state::app;

/// How many of the model's examples are offered.
const EXAMPLES: usize = 6;

#[component]
pub fn Caption() -> impl IntoView {
    let app = app();
    let caption = app.form.caption;
    let examples = move || {
        app.model.with(|model| {
            model
                .as_ref()
                .map(|model| model.manifest.examples.iter().take(EXAMPLES).cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        })
    };
    view! {
        <div class="field">
            <label for="caption">"Caption"</label>
            <textarea
                id="caption"
                data-testid="caption"
                rows="2"
                maxlength="2000"
                placeholder="What should the image show?"
                autocomplete="off"
                aria-describedby="caption-tokens"
                prop:value=caption
                on:input:target=move |event| caption.set(event.target().value())
            ></textarea>
        </div>
        <div class="examples" role="group" aria-label="Examples">
            <For each=examples key=|example| example.clone() let:example>
                <button type="button" class="example" on:click:target=move |event| {
                    caption.set(event.target().text_content().unwrap_or_default());
                }>{example}</button>
            </For>
        </div>
        <Chips/>
    }
}
