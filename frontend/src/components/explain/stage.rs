//! Tokens and pixels at the position on the timeline. Pointing at a cell, or moving to it by keys, shows its pixels and the reverse.

use leptos::ev::{KeyboardEvent, PointerEvent};
use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::text::text;
use super::cells::cell_style;
use crate::canvas::{Cells, draw_cells, draw_moment};
use crate::controller::controller;
use crate::explain::Colouring;
use crate::subject;

#[component]
pub fn Stage() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let (cells, pixels) = (NodeRef::<Canvas>::new(), NodeRef::<Canvas>::new());
    Effect::new(move |_| {
        let Some(canvas) = cells.get() else { return };
        let known = explain.position.get() + 1;
        explain.subject.with(|subject| {
            let Some(subject) = subject else { return };
            let tokens = &subject.tokens[..known.min(subject.tokens.len())];
            let grid = explain.grid();
            explain.steps.with(|steps| {
                explain.codebook.with(|codebook| {
                    let colouring = explain.colouring.get();
                    draw_cells(&canvas, &Cells { tokens, grid, colouring, codebook, steps });
                });
            });
        });
    });
    Effect::new(move |_| {
        if let (Some(canvas), Some(moment)) = (pixels.get(), explain.moment.get()) {
            let (rgba, known) = &*moment;
            draw_moment(&canvas, rgba, *known, explain.grid());
        }
    });
    let side = text(move || (explain.grid() * 16).to_string());
    let size = text(move || (explain.grid() * 8).to_string());
    let cell_at = move |canvas: NodeRef<Canvas>, event: &PointerEvent| {
        let canvas = canvas.get_untracked()?;
        let grid = untrack(|| explain.grid());
        let cell = |at: i32, side: i32| (at.max(0) as usize * grid / side.max(1) as usize).min(grid - 1);
        Some(
            cell(event.offset_y(), canvas.client_height()) * grid
                + cell(event.offset_x(), canvas.client_width()),
        )
    };
    let known = move |cell: &usize| *cell < untrack(|| explain.length());
    let point = move |canvas, event: &PointerEvent| explain.pointed.set(cell_at(canvas, event).filter(known));
    let press = move |canvas, event: &PointerEvent| {
        if let Some(cell) = cell_at(canvas, event).filter(known) {
            controller.ask(explain.go(cell));
        }
    };
    let keys = move |event: KeyboardEvent| {
        let grid = untrack(|| explain.grid()) as isize;
        let by = match event.key().as_str() {
            "ArrowLeft" => -1,
            "ArrowRight" => 1,
            "ArrowUp" => -grid,
            "ArrowDown" => grid,
            "Home" => isize::MIN,
            "End" => isize::MAX,
            _ => return,
        };
        event.prevent_default();
        crate::actions::step(controller, by);
    };
    let outline = move |cell: usize| cell_style(cell, explain.grid());
    let highlight = text(move || outline(explain.highlighted()));
    // The other places of the code that is highlighted.
    let twins = move || {
        explain.subject.with(|subject| {
            let Some(subject) = subject else { return Vec::new() };
            let known = explain.position.get() + 1;
            let own = explain.highlighted();
            // Only of a code that the person asks about: around the newest token they would hide what is there.
            let pointed = explain.pointed.get().and_then(|cell| subject.tokens.get(cell).copied());
            let Some(code) = pointed.or_else(|| explain.code.get()) else { return Vec::new() };
            let same = |cell: &usize| subject.tokens[*cell] == code && *cell != own;
            (0..known.min(subject.tokens.len())).filter(same).collect::<Vec<_>>()
        })
    };
    let pointed = text(move || {
        let cell = explain.highlighted();
        explain.subject.with(|subject| {
            match subject.as_ref().and_then(|own| Some((own, own.tokens.get(cell)?))) {
                Some((subject, token)) => {
                    let count = subject.count(*token);
                    let place = subject::place(cell, explain.grid());
                    let first =
                        place.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                    format!(
                        "{first}{}: code {}, used {}",
                        &place[1..],
                        token.0,
                        if count == 1 { "once".to_owned() } else { format!("{count} times") }
                    )
                }
                None => String::new(),
            }
        })
    });
    // A lesson changes it too.
    let is = move |colouring: Colouring| move || explain.colouring.get() == colouring;
    view! {
        <div class="stage">
            <div
                class="plate tokens-plate"
                style:--grid=move || explain.grid().to_string()
                tabindex="0"
                role="img"
                aria-label="Tokens. Arrow keys move through them."
                aria-describedby="pointed"
                data-testid="explain-tokens"
                on:keydown=keys
            >
                <canvas
                    class="mosaic"
                    node_ref=cells
                    width=side
                    height=side
                    on:pointermove=move |event| point(cells, &event)
                    on:pointerleave=move |_| explain.pointed.set(None)
                    on:pointerdown=move |event| press(cells, &event)
                ></canvas>
                <For each=twins key=|cell| *cell let(cell)><span class="twin" style=text(move || outline(cell))></span></For>
                <span class="spot" style=highlight></span>
            </div>
            <div class="plate">
                <canvas
                    node_ref=pixels
                    width=size
                    height=size
                    role="img"
                    aria-label="Pixels decoded from these tokens"
                    data-testid="explain-pixels"
                    on:pointermove=move |event| point(pixels, &event)
                    on:pointerleave=move |_| explain.pointed.set(None)
                    on:pointerdown=move |event| press(pixels, &event)
                ></canvas>
                <span class="spot" style=highlight></span>
            </div>
        </div>
        <div class="stage-foot">
            <p class="pointed" id="pointed" data-testid="pointed">{pointed}</p>
            <div class="colouring">
                <label for="colouring">"Colour cells by"</label>
                <select
                    id="colouring"
                    data-testid="colouring"
                    on:change:target=move |event| explain.colouring.set(match event.target().value().as_str() {
                        "codes" => Colouring::Codes,
                        "surprise" => Colouring::Surprise,
                        _ => Colouring::Tiles,
                    })
                >
                    <option value="tiles" prop:selected=is(Colouring::Tiles)>"what the code looks like"</option>
                    <option value="codes" prop:selected=is(Colouring::Codes)>"which code it is"</option>
                    <option
                        value="surprise"
                        prop:selected=is(Colouring::Surprise)
                        disabled=move || !explain.has_prior()
                    >
                        "how unsure the prior was"
                    </option>
                </select>
            </div>
        </div>
    }
}
