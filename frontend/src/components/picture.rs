//! One image: its grid of tokens filling up, and its pixels, beside it or, on a narrow screen, over it.

use leptos::ev::PointerEvent;
use leptos::html::Canvas;
use leptos::prelude::*;

use super::card::Card;
use super::decoder_text;
use super::regenerate::Regenerate;
use super::save::Save;
use super::text::text;
use crate::canvas::{draw_pixels, draw_tokens, grid_side};
use crate::controller::app;
use crate::phase::Phase;
use crate::state::Image;

#[component]
pub fn Picture(
    /// Its place among those shown.
    place: ReadSignal<usize>,
    /// Its index among those sampled.
    index: usize,
    image: Image,
) -> impl IntoView {
    let card = Card::new(app(), place, index, image);
    let pixels = NodeRef::<Canvas>::new();
    // On a narrow screen, the tokens are seen instead of the pixels.
    let flipped = RwSignal::new(false);
    let blank = move || {
        matches!(card.app.phase.get(), Phase::Idle | Phase::Loading) && card.tokens.with(Vec::is_empty)
    };
    view! {
        <article
            class="picture"
            class:blank=blank
            class:whole=move || card.is_whole()
            class:flipped=flipped
            style:--grid=move || card.grid().to_string()
            style:--kept=move || format!("{}%", card.rows.get() * 100 / card.grid())
        >
            <TokenGrid card/>
            <Pixels card canvas=pixels/>
            <Save card pixels flipped/>
            <Show when=move || card.is_choosing()>
                <Regenerate card/>
            </Show>
        </article>
    }
}

/// The tokens. Pointing at one says what it is.
#[component]
fn TokenGrid(card: Card) -> impl IntoView {
    let canvas = NodeRef::<Canvas>::new();
    Effect::new(move |drawn: Option<usize>| {
        let Some(canvas) = canvas.get() else { return 0 };
        card.tokens.with(|tokens| {
            draw_tokens(&canvas, tokens, drawn.unwrap_or(0).min(tokens.len()), card.grid());
            tokens.len()
        })
    });
    let side = Signal::derive(move || grid_side(card.grid()));
    let pointed = RwSignal::new(String::new());
    let point = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked() else { return };
        let (row, column) = untrack(|| card.cell(&canvas, (event.offset_x(), event.offset_y())));
        let index = row * untrack(|| card.grid()) + column;
        pointed.set(card.tokens.with_untracked(|tokens| match tokens.get(index) {
            Some(token) => format!("Row {}, column {}: token {}", row + 1, column + 1, token.0),
            None => String::new(),
        }));
    };
    view! {
        <div class="plate tokens-plate" class:keeping=move || card.is_choosing()>
            <canvas
                node_ref=canvas
                data-testid=card.part("tokens")
                width=side
                height=side
                role="img"
                title=text(move || pointed.get())
                on:pointermove=point
                on:click=move |event| card.choose_row(&event, canvas)
                aria-label=text(move || format!("Token grid of image {1}, {0} by {0}", card.grid(), card.number.get()))
            ></canvas>
        </div>
    }
}

/// The pixels; before there are any, how far the decoder is loaded.
#[component]
fn Pixels(card: Card, canvas: NodeRef<Canvas>) -> impl IntoView {
    let app = card.app;
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            card.shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), card.grid()));
        }
    });
    let size = Signal::derive(move || card.size());
    let described = text(move || {
        let number = card.number.get();
        app.displayed.with(|prompt| match prompt {
            Some(prompt) if card.is_whole() => format!("Image {number}: {}", prompt.caption),
            Some(prompt) => format!("Image {number}, unfinished: {}", prompt.caption),
            None => format!("Image {number}: empty"),
        })
    });
    let waits = text(move || {
        let nothing = card.shown.with(Option::is_none) && card.tokens.with(|tokens| !tokens.is_empty());
        match nothing && !app.decoder_is_ready() {
            true => app.decoder.with(decoder_text::short),
            false => String::new(),
        }
    });
    view! {
        <div class="plate pixels-plate" class:keeping=move || card.is_choosing()>
            <canvas
                node_ref=canvas
                data-testid=card.part("picture")
                width=size
                height=size
                role="img"
                on:click=move |event| card.choose_row(&event, canvas)
                aria-label=described
            ></canvas>
            <p
                class="plate-note"
                data-testid=card.part("waits")
                style:--share=move || format!("{:.1}%", app.decoder.with(decoder_text::share))
            >
                {waits}
            </p>
        </div>
    }
}
