//! Generate and Stop.

use leptos::prelude::*;

use super::app;
use crate::problem::Problem;
use crate::state::{App, Phase};
use crate::{browser, generation};

/// What the Generate button does, for the button and for the keyboard.
pub fn press_generate(app: App) {
    let ready = app.model.with_untracked(Option::is_some) && !app.phase.get_untracked().is_active();
    if ready {
        show(app, generation::generate(app));
    }
}

/// What follows the press of a button that asks for pictures.
pub fn show(app: App, asked: Result<(), String>) {
    match asked {
        Ok(()) => browser::scroll_to_result(),
        Err(why) => app.notice.set(Some(why)),
    }
}

/// Whether there is something to stop: a generation, or the wait for a busy server.
pub fn is_stoppable(app: App) -> bool {
    app.phase.get().is_active() || app.problem.with(|problem| matches!(problem, Some(Problem::Busy { .. })))
}

#[component]
pub fn Actions() -> impl IntoView {
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
                on:click=move |_| press_generate(app)
            >
                "Generate"
            </button>
            <button
                type="button"
                class="secondary"
                data-testid="stop"
                disabled=move || !is_stoppable(app)
                on:click=move |_| generation::stop(app)
            >
                "Stop"
            </button>
            <p class="keys" aria-hidden="true"><kbd>"Ctrl"</kbd>" "<kbd>"Enter"</kbd>" · "<kbd>"Esc"</kbd></p>
        </div>
    }
}
