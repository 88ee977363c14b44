//! Where images are sampled: on the server or in this browser.

use leptos::prelude::*;

use crate::actions;
use crate::controller::controller;
use crate::place::Place;

/// The choice, where there are both.
#[component]
pub fn PlaceChoice() -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let both = move || {
        app.model.with(|model| {
            model.as_ref().is_some_and(|model| model.runs_at(Place::Server) && model.runs_at(Place::Browser))
        })
    };
    let choice = move |place: Place, label: &'static str| {
        view! {
            <label class="radio">
                <input
                    type="radio"
                    name="place"
                    data-testid=format!("place-{}", place.name())
                    prop:checked=move || app.place.get() == place
                    on:change=move |_| actions::choose_place(controller, place)
                />
                {label}
            </label>
        }
    };
    view! {
        <Show when=both>
            <fieldset class="place">
                <legend>"Sample the tokens"</legend>
                {choice(Place::Server, "on the server")}
                {choice(Place::Browser, "in this browser")}
                <p class="hint">
                    "The same seed gives the same tokens. In the browser there is no queue, and no choice of the best by CLIP."
                </p>
            </fieldset>
        </Show>
    }
}
