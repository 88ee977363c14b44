//! Number of pictures, seed, and the sampling settings folded away.

use std::iter::successors;

use dalle_shared::{MAX_BEST_OF, MAX_SAMPLES, SamplingSettings};
use leptos::prelude::*;

use crate::browser;
use crate::state::app;

#[component]
pub fn Settings() -> impl IntoView {
    let app = app();
    let form = app.form;
    let image_vocab = move || {
        app.model.with(|model| model.as_ref().map_or(usize::MAX, |model| model.manifest.geometry.image_vocab))
    };
    let step = move |by: isize| {
        form.samples.update(|samples| *samples = samples.saturating_add_signed(by).clamp(1, MAX_SAMPLES));
    };
    let invalid = move || {
        let invalid = form.inputs().invalid(image_vocab());
        invalid.into_iter().map(|invalid| invalid.message).collect::<Vec<_>>().join(" ")
    };
    view! {
        <div class="row">
            <div class="field samples">
                <label for="samples">"Pictures"</label>
                <div class="stepper">
                    <button type="button" aria-label="One picture less" on:click=move |_| step(-1)>"−"</button>
                    <input
                        id="samples"
                        data-testid="samples"
                        type="number"
                        min="1"
                        max=MAX_SAMPLES
                        prop:value=move || form.samples.get().to_string()
                        on:change:target=move |event| {
                            let samples = event.target().value().parse().unwrap_or(1).clamp(1, MAX_SAMPLES);
                            form.samples.set(samples);
                            event.target().set_value(&samples.to_string());
                        }
                    />
                    <button type="button" aria-label="One picture more" on:click=move |_| step(1)>"+"</button>
                </div>
            </div>
            <BestOf/>
            <Seed/>
        </div>
        <details class="settings">
            <summary>"Settings"</summary>
            <div class="grid">
                <Number
                    name="temperature"
                    label="Temperature"
                    value=form.temperature
                    placeholder=SamplingSettings::DEFAULT_TEMPERATURE.to_string()
                    hint="Lower plays safe, higher dares more. 0 always takes the most likely token."
                    step="0.05"
                    max=SamplingSettings::MAX_TEMPERATURE.to_string()
                />
                <Number
                    name="top-k"
                    label="Top-k"
                    value=form.top_k
                    placeholder="off"
                    hint="Draw only among this many most likely tokens."
                    step="1"
                    max=""
                />
                <Number
                    name="top-p"
                    label="Top-p"
                    value=form.top_p
                    placeholder="off"
                    hint="Draw only among the likeliest tokens that together reach this share, such as 0.95."
                    step="0.01"
                    max="1"
                />
            </div>
        </details>
        <p class="invalid" role="status">{invalid}</p>
    }
}

/// How many pictures to draw, where the model can choose among them.
#[component]
fn BestOf() -> impl IntoView {
    let app = app();
    let form = app.form;
    let scores = move || app.model.with(|model| model.as_ref().is_some_and(|model| model.manifest.scores));
    // What the server draws at once, at most.
    let most = move || {
        app.model.with(|model| {
            model.as_ref().map_or(MAX_BEST_OF, |model| model.manifest.max_rows.min(MAX_BEST_OF))
        })
    };
    let wanted = move || form.best_of.get().map(|drawn| drawn.min(most()));
    let choices = Memo::new(move |_| {
        let mut choices: Vec<usize> = successors(Some(2), |drawn| Some(drawn * 2))
            .take_while(|&drawn| drawn <= most())
            .chain(wanted())
            .filter(|&drawn| drawn > form.samples.get())
            .collect();
        choices.sort_unstable();
        choices.dedup();
        choices
    });
    let chosen = move || wanted().filter(|&drawn| drawn > form.samples.get());
    view! {
        <Show when=scores>
            <div class="field best-of">
                <label for="best-of">"Best of"</label>
                <select
                    id="best-of"
                    data-testid="best-of"
                    title="Draws so many and shows those that fit the caption best"
                    on:change:target=move |event| form.best_of.set(event.target().value().parse().ok())
                >
                    <option value="" prop:selected=move || chosen().is_none()>"off"</option>
                    <For each=move || choices.get() key=|drawn| *drawn let(drawn)>
                        <option value=drawn.to_string() prop:selected=move || chosen() == Some(drawn)>{drawn}</option>
                    </For>
                </select>
            </div>
        </Show>
    }
}

#[component]
fn Seed() -> impl IntoView {
    let form = app().form;
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
                    prop:value=form.seed
                    on:input:target=move |event| {
                        form.seed.set(event.target().value());
                        form.seed_locked.set(true);
                    }
                />
                <button
                    type="button"
                    class="icon"
                    aria-label="Draw another seed"
                    title="Draw another seed"
                    on:click=move |_| form.seed.set(browser::random_seed().to_string())
                >
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
                    title="Keep the seed for the next pictures"
                    data-testid="seed-lock"
                    aria-pressed=move || form.seed_locked.get().to_string()
                    on:click=move |_| form.seed_locked.update(|locked| *locked = !*locked)
                >
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect class="body" x="5.5" y="11" width="13" height="8.5" rx="2"/>
                        <path d=move || {
                            if form.seed_locked.get() { "M8.5 11V8a3.5 3.5 0 0 1 7 0v3" } else { "M8.5 11V8a3.5 3.5 0 0 1 6.7-1.4" }
                        }/>
                    </svg>
                </button>
            </div>
        </div>
    }
}

#[component]
fn Number(
    name: &'static str,
    label: &'static str,
    value: RwSignal<String>,
    #[prop(into)] placeholder: String,
    hint: &'static str,
    step: &'static str,
    #[prop(into)] max: String,
) -> impl IntoView {
    let hint_id = format!("{name}-hint");
    view! {
        <div class="field">
            <label for=name>{label}</label>
            <input
                id=name
                data-testid=name
                type="number"
                min="0"
                max=max
                step=step
                placeholder=placeholder
                aria-describedby=hint_id.clone()
                prop:value=value
                on:input:target=move |event| value.set(event.target().value())
            />
            <p class="hint" id=hint_id>{hint}</p>
        </div>
    }
}
