//! The image that the next ones begin with, and how many rows of it are kept.

use leptos::html::Canvas;
use leptos::prelude::*;

use super::rows::Rows;
use super::text::text;
use crate::canvas::draw_pixels;
use crate::controller::app;

#[component]
pub fn KeptRows() -> impl IntoView {
    let app = app();
    let prefix = app.form.prefix;
    let geometry = Memo::new(move |_| app.geometry());
    let grid = move || geometry.get().grid;
    let size = Signal::derive(move || geometry.get().image_size);
    let canvas = NodeRef::<Canvas>::new();
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            prefix.shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), grid()));
        }
    });
    let applies = move || prefix.is_for(&app.form.caption.get());
    let hint = text(move || match prefix.caption.get().filter(|_| !applies()) {
        None => "Each image begins with these rows. The rest is generated for the caption.".to_owned(),
        Some(only) => format!("Not used for this caption: the rows belong to “{only}”."),
    });
    let kept = move || format!("{}%", prefix.rows.get() * 100 / grid());
    view! {
        <div class="kept" class:unused=move || !applies()>
            <div class="plate keeping" style:--kept=kept>
                <canvas
                    node_ref=canvas
                    width=size
                    height=size
                    role="img"
                    data-testid="start-picture"
                    aria-label="The image to start from, decoded from its tokens"
                ></canvas>
            </div>
            <div class="field">
                <Rows
                    id="start-rows"
                    rows=prefix.rows
                    most=Signal::derive(move || prefix.most_rows(grid()))
                    grid=Signal::derive(grid)
                />
                <p class="hint" data-testid="start-hint">{hint}</p>
                <button
                    type="button"
                    class="quiet"
                    data-testid="start-use"
                    hidden=applies
                    on:click=move |_| prefix.caption.set(None)
                >
                    "Use them anyway"
                </button>
            </div>
        </div>
    }
}
