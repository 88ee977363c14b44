//! The caption box, its examples and its tokens.

use std::sync::Arc;

use leptos::ev::KeyboardEvent;
use leptos::prelude::*;

use super::buttons::press_generate;
use super::chips::Chips;
use super::learned::Learned;
use super::text::text;
use crate::controller::controller;
use crate::link::MAX_CAPTION;
use crate::model::Model;

/// How many of the model's examples, or of the completions of what is typed, are offered.
const EXAMPLES: usize = 6;
/// A prior with fewer parameters knows little more than the captions that it was trained on.
const SMALL: u64 = 100_000_000;

#[component]
pub fn Caption() -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let caption = app.form.caption;
    let examples = Memo::new(move |_| {
        let typed = caption.get();
        let found: Vec<String> = app.vocabulary.with(|vocabulary| match vocabulary {
            Some(vocabulary) if !typed.trim().is_empty() => vocabulary.completions(&typed, EXAMPLES),
            _ => Vec::new(),
        });
        // What is typed completely needs no completion.
        if !found.is_empty() && found[0] != typed.trim() {
            return found;
        }
        app.model.with(|model| {
            model
                .as_ref()
                .map(|model| model.manifest.examples.iter().take(EXAMPLES).cloned().collect())
                .unwrap_or_default()
        })
    });
    let hint = text(move || {
        let small = |model: &Arc<Model>| model.manifest.prior_parameters < SMALL;
        let small = app.model.with(|model| model.as_ref().is_some_and(small));
        match small && app.vocabulary.with(Option::is_none) {
            true => "This is a small model. It knows captions like these; with other words expect surprises."
                .to_owned(),
            false => String::new(),
        }
    });
    let submit = move |event: KeyboardEvent| {
        // Ctrl+Enter is the whole page's, and Enter may end a word of an input method.
        let plain = !event.shift_key() && !event.ctrl_key() && !event.meta_key() && !event.is_composing();
        if event.key() == "Enter" && plain {
            event.prevent_default();
            press_generate(controller);
        }
    };
    view! {
        <div class="field">
            <label for="caption">"Caption"</label>
            <textarea
                id="caption"
                data-testid="caption"
                rows="2"
                maxlength=MAX_CAPTION.to_string()
                dir="auto"
                placeholder="What should the image show?"
                autocomplete="off"
                enterkeyhint="go"
                aria-describedby="caption-tokens"
                prop:value=caption
                on:input:target=move |event| caption.set(event.target().value())
                on:keydown=submit
            ></textarea>
        </div>
        <div class="examples" role="group" aria-label="Examples">
            <For each=move || examples.get() key=|example| example.clone() let:example>
                <button type="button" class="example" on:click:target=move |event| {
                    caption.set(event.target().text_content().unwrap_or_default());
                }>{example}</button>
            </For>
        </div>
        <p class="hint">{hint}</p>
        <Learned/>
        <Chips/>
    }
}
