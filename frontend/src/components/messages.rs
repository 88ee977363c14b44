//! What went wrong and what can be done; and notices.

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::controller::{Controller, app, controller};
use crate::decoder::DecoderState;
use crate::generation::GenerationInput;
use crate::problem::{Problem, Remedy};
use crate::{actions, browser, startup};

#[component]
pub fn Messages() -> impl IntoView {
    let app = app();
    let problem = Memo::new(move |_| {
        app.problem.get().or_else(|| match app.decoder.get() {
            DecoderState::Failed(problem) => Some(problem),
            _ => None,
        })
    });
    // The regions stay on the page: a screen reader reads what comes into one, not one that comes with its text.
    view! {
        <div class="messages">
            <div role="status">
                {move || app.notice.get().map(|text| view! {
                    <div class="message notice" data-testid="notice">
                        <p>{text}</p>
                        <button type="button" class="quiet" on:click=move |_| app.notice.set(None)>"Dismiss"</button>
                    </div>
                })}
            </div>
            <div role="alert">
                {move || problem.get().map(|problem| view! { <Trouble problem/> })}
            </div>
        </div>
    }
}

#[component]
fn Trouble(problem: Problem) -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let (what, help) = app.backend.with_untracked(|backend| problem.sentences(backend));
    let remedy = problem.remedy();
    let label = match problem {
        Problem::Busy { .. } => Some("Try now"),
        _ => remedy.label(),
    };
    view! {
        <div class="message error" data-testid="error">
            <div>
                <p class="what">{what}</p>
                <p>{help}{countdown(&problem)}</p>
            </div>
            {label.map(|label| view! {
                <button type="button" class="secondary" data-testid="retry" on:click=move |_| press(controller, remedy)>
                    {label}
                </button>
            })}
        </div>
    }
}

fn press(controller: Controller, remedy: Remedy) {
    match remedy {
        Remedy::Connect if controller.app.model.with_untracked(Option::is_none) => {
            startup::connect(controller);
        }
        Remedy::Connect | Remedy::Again => controller.generation(GenerationInput::Again),
        Remedy::Resume => controller.generation(GenerationInput::Reconnect),
        Remedy::Decoder => actions::start_decoder(controller),
        Remedy::Reload => browser::reload(),
        Remedy::Nothing => {}
    }
}

/// For a busy server: the seconds until it is asked again.
fn countdown(problem: &Problem) -> Option<impl IntoView + use<>> {
    let Problem::Busy { retry_at } = *problem else { return None };
    let left = move || ((retry_at - browser::now()) / 1e3).ceil().max(0.0);
    let seconds = RwSignal::new(left());
    spawn_local(async move {
        // The signal goes away with the message.
        while seconds.try_set(left()).is_none() && left() > 0.0 {
            TimeoutFuture::new(250).await;
        }
    });
    Some(view! { <span aria-hidden="true">" Next attempt in "{seconds}" s."</span> })
}
