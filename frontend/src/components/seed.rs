//! The seed: typed, rolled or kept.

use leptos::prelude::*;

use super::text::{flag, text};
use crate::browser;
use crate::controller::app;
use crate::form::SeedUse;

#[component]
pub fn Seed(
    /// Whether the text is not a valid seed.
    #[prop(into)]
    invalid: Signal<bool>,
) -> impl IntoView {
    let form = app().form;
    let locked = move || form.seed_use.get() == SeedUse::Always;
    let roll = move |_| {
        form.seed.set(browser::random_seed().to_string());
        form.seed_use.update(|seed_use| *seed_use = seed_use.or_next());
    };
    view! {
        <div class="field seed">
            <label for="seed">"Seed"</label>
            <div class="joined">
                <input
                    id="seed"
                    data-testid="seed"
                    inputmode="numeric"
                    autocomplete="off"
                    spellcheck="false"
                    aria-invalid=flag(move || invalid.get())
                    aria-describedby="invalid"
                    prop:value=form.seed
                    on:input:target=move |event| {
                        form.seed.set(event.target().value());
                        form.seed_use.set(SeedUse::Always);
                    }
                />
                <button type="button" class="icon" aria-label="Random seed" title="Random seed" on:click=roll>
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect x="4.5" y="4.5" width="15" height="15" rx="3.5"/>
                        <g class="solid">
                            <circle cx="9" cy="9" r="1.4"/>
                            <circle cx="15" cy="15" r="1.4"/>
                            <circle cx="12" cy="12" r="1.4"/>
                        </g>
                    </svg>
                </button>
                <button
                    type="button"
                    class="icon"
                    aria-label="Keep the seed"
                    title="Keep the seed for the next images"
                    data-testid="seed-lock"
                    aria-pressed=flag(locked)
                    on:click=move |_| form.seed_use.set(if locked() { SeedUse::Never } else { SeedUse::Always })
                >
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect class="body" x="5.5" y="11" width="13" height="8.5" rx="2"/>
                        <path d=text(move || {
                            if locked() { "M8.5 11V8a3.5 3.5 0 0 1 7 0v3" } else { "M8.5 11V8a3.5 3.5 0 0 1 6.7-1.4" }.to_owned()
                        })/>
                    </svg>
                </button>
            </div>
        </div>
    }
}
