//! Number of images, seed, and the sampling settings folded away.

use std::iter::successors;

use dalle_shared::{MAX_BEST_OF, MAX_SAMPLES, SamplingSettings};
use leptos::prelude::*;

use super::place::PlaceChoice;
use super::seed::Seed;
use super::text::{flag, text};
use crate::controller::app;
use crate::form::Invalid;

#[component]
pub fn Settings() -> impl IntoView {
    let app = app();
    let form = app.form;
    let invalid = Memo::new(move |_| {
        let vocab =
            app.model.with(|model| model.as_ref().map_or(usize::MAX, |model| model.geometry().image_vocab));
        form.inputs().invalid(vocab)
    });
    let messages = text(move || {
        invalid.with(|invalid| {
            invalid.iter().map(|Invalid { message, .. }| message.as_str()).collect::<Vec<_>>().join(" ")
        })
    });
    let is_invalid = move |id: &'static str| {
        Signal::derive(move || invalid.with(|invalid| invalid.iter().any(|invalid| invalid.id == id)))
    };
    view! {
        <div class="row">
            <Samples/>
            <BestOf/>
            <Seed invalid=is_invalid("seed")/>
        </div>
        <details class="settings">
            <summary>"Settings"</summary>
            <div class="grid">
                <Number
                    name="temperature"
                    label="Temperature"
                    value=form.temperature
                    invalid=is_invalid("temperature")
                    placeholder=SamplingSettings::DEFAULT_TEMPERATURE.to_string()
                    hint="Lower is safer, higher more varied. 0 always takes the most likely token."
                    step="0.05"
                    max=SamplingSettings::MAX_TEMPERATURE.to_string()
                />
                <Number
                    name="top-k"
                    label="Top-k"
                    value=form.top_k
                    invalid=is_invalid("top-k")
                    placeholder="off"
                    hint="Sample only from this many most likely tokens."
                    step="1"
                    max=""
                />
                <Number
                    name="top-p"
                    label="Top-p"
                    value=form.top_p
                    invalid=is_invalid("top-p")
                    placeholder="off"
                    hint="Sample only from the most likely tokens that together reach this probability, such as 0.95."
                    step="0.01"
                    max="1"
                />
            </div>
            <PlaceChoice/>
        </details>
        <p class="invalid" id="invalid" role="status">{messages}</p>
    }
}

/// How many images to show.
#[component]
fn Samples() -> impl IntoView {
    let form = app().form;
    let step = move |by: isize| {
        form.samples.update(|samples| *samples = samples.saturating_add_signed(by).clamp(1, MAX_SAMPLES));
    };
    view! {
        <div class="field samples">
            <label for="samples">"Images"</label>
            <div class="stepper">
                <button type="button" aria-label="One image less" on:click=move |_| step(-1)>"−"</button>
                <input
                    id="samples"
                    data-testid="samples"
                    type="number"
                    min="1"
                    max=MAX_SAMPLES
                    prop:value=text(move || form.samples.get().to_string())
                    on:change:target=move |event| {
                        let samples = event.target().value().parse().unwrap_or(1).clamp(1, MAX_SAMPLES);
                        form.samples.set(samples);
                        event.target().set_value(&samples.to_string());
                    }
                />
                <button type="button" aria-label="One image more" on:click=move |_| step(1)>"+"</button>
            </div>
        </div>
    }
}

/// How many images to sample, where the model can choose among them.
#[component]
fn BestOf() -> impl IntoView {
    let app = app();
    let form = app.form;
    let scores =
        move || app.model.with(|model| model.as_ref().is_some_and(|model| model.scores_at(app.place.get())));
    // What the server samples at once, at most.
    let most = move || {
        app.model.with(|model| {
            model.as_ref().map_or(MAX_BEST_OF, |model| model.manifest.max_rows.min(MAX_BEST_OF))
        })
    };
    let wanted = move || form.best_of.get().map(|sampled| sampled.min(most()));
    let choices = Memo::new(move |_| {
        let mut choices: Vec<usize> = successors(Some(2), |sampled| Some(sampled * 2))
            .take_while(|&sampled| sampled <= most())
            .chain(wanted())
            .filter(|&sampled| sampled > form.samples.get())
            .collect();
        choices.sort_unstable();
        choices.dedup();
        choices
    });
    let chosen = move || wanted().filter(|&sampled| sampled > form.samples.get());
    view! {
        <Show when=scores>
            <div class="field best-of">
                <label for="best-of">"Best of"</label>
                <select
                    id="best-of"
                    data-testid="best-of"
                    title="Samples this many images and shows those that fit the caption best"
                    on:change:target=move |event| form.best_of.set(event.target().value().parse().ok())
                >
                    <option value="" prop:selected=move || chosen().is_none()>"off"</option>
                    <For each=move || choices.get() key=|sampled| *sampled let(sampled)>
                        <option value=sampled.to_string() prop:selected=move || chosen() == Some(sampled)>{sampled}</option>
                    </For>
                </select>
            </div>
        </Show>
    }
}

#[component]
fn Number(
    name: &'static str,
    label: &'static str,
    value: RwSignal<String>,
    invalid: Signal<bool>,
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
                aria-invalid=flag(move || invalid.get())
                aria-describedby=format!("{hint_id} invalid")
                prop:value=value
                on:input:target=move |event| value.set(event.target().value())
            />
            <p class="hint" id=hint_id>{hint}</p>
        </div>
    }
}
