//! Generate and Stop.

use leptos::prelude::*;

use crate::controller::{Controller, controller};
use crate::form::Invalid;
use crate::generation::Input;
use crate::phase::Phase;
use crate::problem::Problem;
use crate::state::{App, app};
use crate::{actions, browser};

/// What the Generate button does, for the button and for the keyboard.
pub fn press_generate(controller: Controller) {
    let app = controller.app;
    let ready = app.model.with_untracked(Option::is_some) && !app.phase.get_untracked().is_active();
    if ready {
        show(app, actions::generate(controller));
    }
}

/// What follows the press of a button that asks for images.
pub fn show(app: App, asked: Result<(), Invalid>) {
    match asked {
        Ok(()) => browser::scroll_to_result(),
        Err(invalid) => app.notice.set(Some(invalid.message)),
    }
}

/// Whether there is something to stop: a generation, or the wait for a busy server.
pub fn is_stoppable(app: App) -> bool {
    app.phase.get().is_active() || app.problem.with(|problem| matches!(problem, Some(Problem::Busy { .. })))
}

#[component]
pub fn Buttons() -> impl IntoView {
    let controller = controller();
    let app = app();
    let active = move || app.phase.get().is_active();
    let ready = move || app.model.with(Option::is_some) && app.phase.get() != Phase::Loading;
    view! {
        <div class="actions">
            <button
                type="button"
                class="primary"
                data-testid="generate"
                disabled=move || !ready() || active()
                on:click=move |_| press_generate(controller)
            >
                "Generate"
            </button>
            <button
                type="button"
                class="secondary"
                data-testid="stop"
                disabled=move || !is_stoppable(app)
                on:click=move |_| controller.generation(Input::Stop)
            >
                "Stop"
            </button>
            <p class="keys" aria-hidden="true"><kbd>"Ctrl"</kbd>" "<kbd>"Enter"</kbd>" · "<kbd>"Esc"</kbd></p>
        </div>
    }
}
