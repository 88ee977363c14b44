//! One picture: its grid of tokens filling up, and its pixels beside it.

use dalle_shared::ImageToken;
use leptos::ev::PointerEvent;
use leptos::html::Canvas;
use leptos::prelude::*;
use serde::Serialize;

use super::app;
use crate::canvas::{draw_pixels, draw_tokens, grid_side, png};
use crate::state::{Phase, Picture};
use crate::{browser, format};

/// What `dalle dvae decode` reads.
#[derive(Serialize)]
struct TokensFile<'a> {
    grid: usize,
    tokens: &'a [ImageToken],
}

#[component]
pub fn PictureCard(index: usize, picture: Picture) -> impl IntoView {
    let app = app();
    let number = index + 1;
    let tokens = RwSignal::from(picture.tokens);
    let shown = RwSignal::from(picture.shown);
    let geometry = Memo::new(move |_| {
        app.model.with(|model| {
            model
                .as_ref()
                .map_or((1, 8), |model| (model.manifest.geometry.grid, model.manifest.geometry.image_size))
        })
    });
    let grid = move || geometry.get().0;
    let size = move || geometry.get().1;
    let tokens_canvas = NodeRef::<Canvas>::new();
    let pixels_canvas = NodeRef::<Canvas>::new();

    Effect::new(move |drawn: Option<usize>| {
        let Some(canvas) = tokens_canvas.get() else { return 0 };
        tokens.with(|tokens| {
            draw_tokens(&canvas, tokens, drawn.unwrap_or(0).min(tokens.len()), grid());
            tokens.len()
        })
    });
    Effect::new(move |_| {
        if let Some(canvas) = pixels_canvas.get() {
            shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), grid()));
        }
    });

    let whole = move || shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.rows == grid()));
    let name = move |extension| {
        app.current.with_untracked(|current| {
            let (caption, seed) = current
                .as_ref()
                .map_or(("", 0), |current| (current.caption.as_str(), current.request.seed.0));
            format::file_name(caption, seed, number, extension)
        })
    };
    let pointed = RwSignal::new(String::new());
    let point = move |event: PointerEvent| {
        let Some(canvas) = tokens_canvas.get_untracked() else { return };
        let cell = |at: i32, side: i32| (at.max(0) as usize * grid() / side.max(1) as usize).min(grid() - 1);
        let (row, column) =
            (cell(event.offset_y(), canvas.client_height()), cell(event.offset_x(), canvas.client_width()));
        pointed.set(tokens.with_untracked(|tokens| match tokens.get(row * grid() + column) {
            Some(token) => format!("Row {}, column {}: token {}", row + 1, column + 1, token.0),
            None => String::new(),
        }));
    };
    let save_png = move |_| {
        if let Some(Ok(href)) = pixels_canvas.get_untracked().map(|canvas| png(&canvas)) {
            browser::save(&href, &name("png"));
        }
    };
    let tokens_json = move || {
        tokens.with(|tokens| {
            let file = TokensFile { grid: grid(), tokens };
            serde_json::to_string(&file).unwrap_or_default()
        })
    };
    let tokens_href = move || {
        let json: String = form_urlencoded::byte_serialize(tokens_json().as_bytes()).collect();
        format!("data:application/json,{json}")
    };
    let has_tokens = move || tokens.with(|tokens| !tokens.is_empty());
    let described = move || {
        let caption = app.current.with(|current| current.as_ref().map(|current| current.caption.clone()));
        match caption {
            Some(caption) if whole() => format!("Picture {number}: {caption}"),
            Some(caption) => format!("Picture {number}, unfinished: {caption}"),
            None => format!("Picture {number}: empty"),
        }
    };
    let blank = move || matches!(app.phase.get(), Phase::Idle | Phase::Loading) && !has_tokens();

    view! {
        <article class="picture" class:blank=blank class:whole=whole style:--grid=move || grid().to_string()>
            <div class="plate tokens-plate">
                <canvas
                    node_ref=tokens_canvas
                    data-testid=format!("tokens-{number}")
                    width=move || grid_side(grid())
                    height=move || grid_side(grid())
                    role="img"
                    title=pointed
                    on:pointermove=point
                    aria-label=move || format!("Token grid of picture {number}, {0} by {0}", grid())
                ></canvas>
            </div>
            <div class="plate pixels-plate">
                <canvas
                    node_ref=pixels_canvas
                    data-testid=format!("picture-{number}")
                    width=size
                    height=size
                    role="img"
                    aria-label=described
                ></canvas>
            </div>
            <div class="save">
                <button
                    type="button"
                    class="quiet"
                    data-testid=format!("download-{number}")
                    aria-label=format!("Save picture {number} as PNG")
                    disabled=move || !whole()
                    on:click=save_png
                >
                    "Save PNG"
                </button>
                <Show when=whole>
                    <a
                        class="quiet"
                        data-testid=format!("tokens-json-{number}")
                        aria-label=format!("Save the tokens of picture {number} as JSON")
                        href=tokens_href
                        download=move || name("tokens.json")
                    >
                        "Tokens"
                    </a>
                </Show>
            </div>
        </article>
    }
}
