//! Generate and Stop.
//!
//! A button that cannot be pressed now is `aria-disabled`, not `disabled`: it keeps the focus of the keyboard.

use leptos::prelude::*;

use super::text::flag;
use crate::controller::{Controller, controller};
use crate::form::Invalid;
use crate::generation::GenerationInput;
use crate::phase::Phase;
use crate::problem::Problem;
use crate::state::App;
use crate::{actions, browser};

/// What the Generate button does, for the button and for the keyboard.
pub fn press_generate(controller: Controller) {
    if untrack(|| can_generate(controller.app)) {
        show(controller.app, actions::generate(controller));
    }
}

/// What follows the press of a button that asks for images.
pub fn show(app: App, asked: Result<(), Invalid>) {
    match asked {
        Ok(()) => browser::scroll_to_result(),
        Err(invalid) => {
            browser::focus(invalid.id);
            app.notice.set(Some(invalid.message));
        }
    }
}

/// Presses Stop, if there is something to stop.
pub fn press_stop(controller: Controller) {
    if untrack(|| can_stop(controller.app)) {
        controller.generation(GenerationInput::Stop);
    }
}

fn can_generate(app: App) -> bool {
    app.model.with(Option::is_some) && app.phase.get() != Phase::Loading && !app.phase.get().is_active()
}

/// Whether there is something to stop: a generation, or the wait for a busy server.
fn can_stop(app: App) -> bool {
    app.phase.get().is_active() || app.problem.with(|problem| matches!(problem, Some(Problem::Busy { .. })))
}

#[component]
pub fn Buttons() -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    view! {
        <div class="actions">
            <button
                type="button"
                class="primary"
                data-testid="generate"
                aria-disabled=flag(move || !can_generate(app))
                on:click=move |_| press_generate(controller)
            >
                "Generate"
            </button>
            <button
                type="button"
                class="secondary"
                data-testid="stop"
                aria-disabled=flag(move || !can_stop(app))
                on:click=move |_| press_stop(controller)
            >
                "Stop"
            </button>
            <p class="keys" aria-hidden="true"><kbd>"Enter"</kbd>" · "<kbd>"Esc"</kbd></p>
        </div>
    }
}
