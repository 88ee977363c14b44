//! Drawing a finished picture again from a row that the person chooses.

use dalle_shared::ImageToken;
use leptos::prelude::*;

use super::buttons::show;
use super::rows::Rows;
use crate::controller::controller;
use crate::{actions, browser};

/// The slider and the button below a picture. A click on the picture chooses the row too.
#[component]
pub fn Redraw(
    number: Signal<usize>,
    tokens: RwSignal<Vec<ImageToken>>,
    rows: RwSignal<usize>,
    #[prop(into)] grid: Signal<usize>,
) -> impl IntoView {
    let controller = controller();
    let draw = move |_| {
        let asked = actions::regenerate(controller, tokens.get_untracked(), rows.get_untracked());
        if asked.is_ok() {
            // The button that was pressed goes away with its picture.
            browser::focus("result");
        }
        show(controller.app, asked);
    };
    view! {
        <div class="redraw" id=move || format!("redraw-{}", number.get())>
            <div class="field">
                <Rows
                    id=Signal::derive(move || format!("redraw-rows-{}", number.get()))
                    rows
                    most=Signal::derive(move || grid.get().saturating_sub(1))
                    grid
                />
            </div>
            <button type="button" class="secondary" data-testid=move || format!("redraw-{}", number.get()) on:click=draw>
                "Draw again from here"
            </button>
        </div>
    }
}
