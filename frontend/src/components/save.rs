//! The buttons below an image.

use dalle_shared::ImageToken;
use leptos::html::Canvas;
use leptos::prelude::*;
use serde::Serialize;

use super::card::Card;
use super::copied::say_copied;
use super::text::{flag, text};
use crate::controller::controller;
use crate::{actions, browser, canvas};

/// How many times as large an enlarged image is.
const ENLARGED: u32 = 4;

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
    let more = RwSignal::new(false);
    let copied = RwSignal::new(false);
    let file = move |times: u32| {
        let canvas = pixels.get_untracked().filter(|_| untrack(|| card.is_whole()))?;
        let canvas = if times == 1 { Some(canvas) } else { canvas::enlarged(&canvas, times) };
        canvas::png(&canvas?, card.metadata().as_ref())
    };
    let save = move |times: u32| {
        let name = match times {
            1 => card.file_name("png"),
            _ => card.file_name(&format!("x{times}.png")),
        };
        if let Some(bytes) = file(times) {
            browser::save(&bytes, "image/png", &name);
        }
    };
    let copy = move |_| match file(1).and_then(|bytes| browser::copy_png(&bytes)) {
        Some(copying) => say_copied(copied, copying),
        None => {
            let text = "This browser does not allow copying here. Save the PNG, or use the image's own menu.";
            card.app.notice.set(Some(text.to_owned()));
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
                on:click=move |_| save(1)
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
                <button
                    type="button"
                    class="quiet"
                    data-testid=card.part("more")
                    aria-label=text(move || format!("More for image {}", number.get()))
                    aria-expanded=flag(move || more.get())
                    on:click=move |_| more.update(|more| *more = !*more)
                >
                    "More"
                </button>
                <span class="more" hidden=move || !more.get()>
                    <button
                        type="button"
                        class="quiet"
                        data-testid=card.part("copy")
                        aria-label=text(move || match copied.get() {
                            true => format!("Copied image {}", number.get()),
                            false => format!("Copy image {}", number.get()),
                        })
                        on:click=copy
                    >
                        {text(move || if copied.get() { "Copied" } else { "Copy image" }.to_owned())}
                    </button>
                    <button
                        type="button"
                        class="quiet"
                        data-testid=card.part("enlarged")
                        aria-label=text(move || format!("Save ×{ENLARGED} of image {}", number.get()))
                        on:click=move |_| save(ENLARGED)
                    >
                        {format!("Save ×{ENLARGED}")}
                    </button>
                    <a
                        class="quiet"
                        data-testid=card.part("tokens-json")
                        aria-label=text(move || format!("Tokens of image {} as JSON", number.get()))
                        href=tokens_href
                        download=text(move || card.file_name("tokens.json"))
                    >
                        "Tokens"
                    </a>
                </span>
            </Show>
        </div>
    }
}
