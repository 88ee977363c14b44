//! One picture: its grid of tokens filling up, and its pixels beside it.

use dalle_shared::ImageToken;
use leptos::ev::{MouseEvent, PointerEvent};
use leptos::html::Canvas;
use leptos::prelude::*;
use serde::Serialize;

use super::redraw::Redraw;
use crate::canvas::{draw_pixels, draw_tokens, grid_side, png};
use crate::phase::Phase;
use crate::state::{Image, app};
use crate::{browser, format};

/// What `dalle dvae decode` reads.
#[derive(Serialize)]
struct TokensFile<'a> {
    grid: usize,
    tokens: &'a [ImageToken],
}

#[component]
pub fn PictureCard(
    /// Its place among those shown.
    place: ReadSignal<usize>,
    /// Its index among those drawn.
    index: usize,
    image: Image,
) -> impl IntoView {
    let app = app();
    let number = Signal::derive(move || place.get() + 1);
    let part = move |name: &'static str| move || format!("{name}-{}", number.get());
    let tokens = RwSignal::from(image.tokens);
    let shown = RwSignal::from(image.shown);
    let geometry = Memo::new(move |_| app.geometry());
    let grid = move || geometry.get().grid;
    let size = move || geometry.get().image_size;
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
        app.displayed.with_untracked(|prompt| {
            let (caption, seed) =
                prompt.as_ref().map_or(("", 0), |prompt| (prompt.caption.as_str(), prompt.request.seed.0));
            format::file_name(caption, seed, index + 1, extension)
        })
    };
    let pointed = RwSignal::new(String::new());
    let cell = move |at: i32, side: i32| (at.max(0) as usize * grid() / side.max(1) as usize).min(grid() - 1);
    let point = move |event: PointerEvent| {
        let Some(canvas) = tokens_canvas.get_untracked() else { return };
        let (row, column) =
            (cell(event.offset_y(), canvas.client_height()), cell(event.offset_x(), canvas.client_width()));
        pointed.set(tokens.with_untracked(|tokens| match tokens.get(row * grid() + column) {
            Some(token) => format!("Row {}, column {}: token {}", row + 1, column + 1, token.0),
            None => String::new(),
        }));
    };
    // Rows that stay when the picture is drawn again, while they are being chosen.
    let (choosing, rows) = (RwSignal::new(false), RwSignal::new(1));
    let redraws = move || choosing.get() && whole();
    let choose = move |_| {
        rows.set((grid() / 2).max(1));
        choosing.update(|choosing| *choosing = !*choosing);
    };
    let choose_row = move |event: MouseEvent, canvas: NodeRef<Canvas>| {
        if let Some(canvas) = canvas.get_untracked().filter(|_| redraws()) {
            let row = cell(event.offset_y(), canvas.client_height()) + 1;
            rows.set(row.min(grid().saturating_sub(1)).max(1));
        }
    };
    let kept = move || format!("{}%", rows.get() * 100 / grid());
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
        let caption = app.displayed.with(|prompt| prompt.as_ref().map(|prompt| prompt.caption.clone()));
        let number = number.get();
        match caption {
            Some(caption) if whole() => format!("Picture {number}: {caption}"),
            Some(caption) => format!("Picture {number}, unfinished: {caption}"),
            None => format!("Picture {number}: empty"),
        }
    };
    let blank = move || matches!(app.phase.get(), Phase::Idle | Phase::Loading) && !has_tokens();

    view! {
        <article
            class="picture"
            class:blank=blank
            class:whole=whole
            style:--grid=move || grid().to_string()
            style:--kept=kept
        >
            <div class="plate tokens-plate" class:keeping=redraws>
                <canvas
                    node_ref=tokens_canvas
                    data-testid=part("tokens")
                    width=move || grid_side(grid())
                    height=move || grid_side(grid())
                    role="img"
                    title=pointed
                    on:pointermove=point
                    on:click=move |event| choose_row(event, tokens_canvas)
                    aria-label=move || format!("Token grid of picture {1}, {0} by {0}", grid(), number.get())
                ></canvas>
            </div>
            <div class="plate pixels-plate" class:keeping=redraws>
                <canvas
                    node_ref=pixels_canvas
                    data-testid=part("picture")
                    width=size
                    height=size
                    role="img"
                    on:click=move |event| choose_row(event, pixels_canvas)
                    aria-label=described
                ></canvas>
            </div>
            <div class="save">
                <Show when=move || whole() && { grid() > 1 }>
                    <button
                        type="button"
                        class="quiet"
                        data-testid=part("choose-row")
                        aria-label=move || format!("Draw picture {} again from a row", number.get())
                        aria-expanded=move || choosing.get().to_string()
                        on:click=choose
                    >
                        "Draw again…"
                    </button>
                </Show>
                <button
                    type="button"
                    class="quiet"
                    data-testid=part("download")
                    aria-label=move || format!("Save picture {} as PNG", number.get())
                    disabled=move || !whole()
                    on:click=save_png
                >
                    "Save PNG"
                </button>
                <Show when=whole>
                    <a
                        class="quiet"
                        data-testid=part("tokens-json")
                        aria-label=move || format!("Save the tokens of picture {} as JSON", number.get())
                        href=tokens_href
                        download=move || name("tokens.json")
                    >
                        "Tokens"
                    </a>
                </Show>
            </div>
            <Show when=redraws>
                <Redraw number tokens rows grid=Signal::derive(grid)/>
            </Show>
        </article>
    }
}
