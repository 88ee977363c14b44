//! The buttons below an image.

use dalle_shared::ImageToken;
use leptos::html::Canvas;
use leptos::prelude::*;
use serde::Serialize;

use super::card::Card;
use super::text::{flag, text};
use crate::canvas::png;
use crate::controller::controller;
use crate::{actions, browser};

/// What `dalle dvae decode` reads.
#[derive(Serialize)]
struct TokensFile<'a> {
    grid: usize,
    tokens: &'a [ImageToken],
}

#[component]
pub fn Save(
    card: Card,
    /// The canvas to save.
    pixels: NodeRef<Canvas>,
    /// On a narrow screen, the tokens are seen instead of the pixels.
    flipped: RwSignal<bool>,
) -> impl IntoView {
    let save_png = move |_| {
        if let Some(Ok(href)) =
            pixels.get_untracked().filter(|_| untrack(|| card.is_whole())).map(|canvas| png(&canvas))
        {
            browser::save(&href, &card.file_name("png"));
        }
    };
    let tokens_href = text(move || {
        let json = card.tokens.with(|tokens| {
            serde_json::to_string(&TokensFile { grid: card.grid(), tokens }).unwrap_or_default()
        });
        let json: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
        format!("data:application/json,{json}")
    });
    let choose = move |_| {
        card.rows.set((untrack(|| card.grid()) / 2).max(1));
        card.choosing.update(|choosing| *choosing = !*choosing);
    };
    let number = card.number;
    let controller = controller();
    view! {
        <div class="save">
            <Show when=move || card.is_whole() && { card.grid() > 1 }>
                <button
                    type="button"
                    class="quiet"
                    data-testid=card.part("choose-row")
                    aria-label=text(move || format!("Regenerate image {} from a row", number.get()))
                    aria-expanded=flag(move || card.choosing.get())
                    on:click=choose
                >
                    "Regenerate"
                </button>
            </Show>
            <Show when=move || card.is_whole()>
                <button
                    type="button"
                    class="quiet"
                    data-testid=card.part("explain")
                    aria-label=text(move || format!("Explain image {}", number.get()))
                    on:click=move |_| {
                        actions::explain(controller, card.index);
                        browser::focus("explain");
                    }
                >
                    "Explain"
                </button>
            </Show>
            <button
                type="button"
                class="quiet"
                data-testid=card.part("download")
                aria-label=text(move || format!("Save PNG of image {}", number.get()))
                disabled=move || !card.is_whole()
                on:click=save_png
            >
                "Save PNG"
            </button>
            <button
                type="button"
                class="quiet narrow-only"
                aria-label=text(move || format!("Show tokens of image {}", number.get()))
                aria-pressed=flag(move || flipped.get())
                on:click=move |_| flipped.update(|flipped| *flipped = !*flipped)
            >
                "Show tokens"
            </button>
            <Show when=move || card.is_whole()>
                <a
                    class="quiet"
                    data-testid=card.part("tokens-json")
                    aria-label=text(move || format!("Tokens of image {} as JSON", number.get()))
                    href=tokens_href
                    download=text(move || card.file_name("tokens.json"))
                >
                    "Tokens"
                </a>
            </Show>
        </div>
    }
}
