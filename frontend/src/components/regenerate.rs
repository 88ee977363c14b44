//! Generating an image again from a row that the person chooses.

use leptos::prelude::*;

use super::buttons::show;
use super::card::Card;
use super::rows::Rows;
use crate::controller::controller;
use crate::{actions, browser};

/// The slider and the button below an image. A click on the image chooses the row too.
#[component]
pub fn Regenerate(card: Card) -> impl IntoView {
    let controller = controller();
    let regenerate = move |_| {
        let tokens = card.tokens.get_untracked();
        let asked = actions::regenerate(controller, tokens, card.rows.get_untracked());
        if asked.is_ok() {
            // The button that was pressed goes away with its image.
            browser::focus("result");
        }
        show(card.app, asked);
    };
    view! {
        <div class="redraw" id=card.part("redraw")>
            <div class="field">
                <Rows
                    id=card.part("redraw-rows")
                    rows=card.rows
                    most=Signal::derive(move || card.grid().saturating_sub(1))
                    grid=Signal::derive(move || card.grid())
                />
            </div>
            <button type="button" class="secondary" data-testid=card.part("redraw") on:click=regenerate>
                "Regenerate from here"
            </button>
        </div>
    }
}
