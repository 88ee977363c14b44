//! The codebook: every code as it looks, those of this image first among equals, and what one of them changes when it is painted at
//! the position on the timeline.

use dalle_shared::ImageToken;
use leptos::ev::{KeyboardEvent, PointerEvent};
use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::text::text;
use super::probabilities::Tile;
use crate::canvas::{draw_difference, draw_moment, draw_tiles};
use crate::codebook::TILE;
use crate::controller::controller;
use crate::format;
use crate::subject;

/// Tiles of a row.
const COLUMNS: usize = 32;

#[component]
pub fn Codes() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let canvas = NodeRef::<Canvas>::new();
    let order = Memo::new(move |_| explain.codebook.with(|codebook| codebook.by_lightness()));
    let rows = move || order.with(Vec::len).div_ceil(COLUMNS).max(1);
    let width = (COLUMNS * (TILE + 1)).to_string();
    let height = text(move || (rows() * (TILE + 1)).to_string());
    Effect::new(move |_| {
        // The canvas is cleared when its height changes.
        height.track();
        let Some(canvas) = canvas.get() else { return };
        let used = explain
            .subject
            .with(|subject| subject.as_ref().map(|subject| subject.tokens.clone()).unwrap_or_default());
        order.with(|order| {
            explain.codebook.with(|codebook| {
                draw_tiles(&canvas, order, codebook, COLUMNS, |token| used.contains(&token));
            });
        });
    });
    let point = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked() else { return };
        let part = |at: i32, side: i32, parts: usize| at.max(0) as usize * parts / side.max(1) as usize;
        let row = part(event.offset_y(), canvas.client_height(), untrack(rows));
        let column = part(event.offset_x(), canvas.client_width(), COLUMNS).min(COLUMNS - 1);
        let code = order.with_untracked(|order| order.get(row * COLUMNS + column).copied());
        explain.code.set(code.or(explain.code.get_untracked()));
    };
    let keys = move |event: KeyboardEvent| {
        let by = match event.key().as_str() {
            "ArrowLeft" => -1,
            "ArrowRight" => 1,
            "ArrowUp" => -(COLUMNS as isize),
            "ArrowDown" => COLUMNS as isize,
            _ => return,
        };
        event.prevent_default();
        order.with_untracked(|order| {
            let now =
                explain.code.get_untracked().and_then(|code| order.iter().position(|other| *other == code));
            let next = now.map_or(0, |now| now.saturating_add_signed(by)).min(order.len().saturating_sub(1));
            explain.code.set(order.get(next).copied());
        });
    };
    let spot = text(move || {
        let code = explain.code.get();
        order.with(|order| match order.iter().position(|other| Some(*other) == code) {
            Some(index) => format!(
                "left:{:.3}%;top:{:.3}%;width:{:.3}%;height:{:.3}%",
                (index % COLUMNS) as f64 * 100.0 / COLUMNS as f64,
                (index / COLUMNS) as f64 * 100.0 / rows() as f64,
                100.0 / COLUMNS as f64,
                100.0 / rows() as f64
            ),
            None => "display:none".to_owned(),
        })
    });
    let summary = text(move || {
        let inventory =
            explain.subject.with(|subject| subject.as_ref().map_or(0, |own| own.inventory().len()));
        let (known, all) = (explain.codebook.with(|codebook| codebook.len()), explain.vocab());
        if known < all {
            let (known, all) = (format::count(known as u64), format::count(all as u64));
            return format!("Decoding the codebook: {known} of {all} codes…");
        }
        let bits = explain.steps.with(|steps| subject::bits(steps));
        let cost = match explain.steps.with(Vec::len) == explain.length() && bits > 0.0 {
            true => format!(" With this prior it costs {} bits.", format::count(bits.round() as u64)),
            false => String::new(),
        };
        format!(
            "This image uses {} of {} codes; the others are faded.{cost}",
            format::count(inventory as u64),
            format::count(all as u64)
        )
    });
    view! {
        <p class="hint" data-testid="codebook-summary">{summary}</p>
        <div class="codes">
            <div
                class="code-sheet"
                tabindex="0"
                role="img"
                aria-label="Codebook. Arrow keys move through it."
                aria-describedby="code"
                on:keydown=keys
            >
                <canvas node_ref=canvas width=width height=height data-testid="codebook" on:pointerdown=point></canvas>
                <span class="spot" style=spot></span>
            </div>
            <div class="code-side">
                {move || match explain.code.get() {
                    Some(code) => view! { <Code code/> }.into_any(),
                    None => view! { <p class="hint" id="code">"Press a code to see where this image uses it, and what it would change."</p> }.into_any(),
                }}
            </div>
        </div>
        <Inventory/>
    }
}

/// The code that was chosen.
#[component]
fn Code(code: ImageToken) -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let count =
        move || explain.subject.with(|subject| subject.as_ref().map_or(0, |subject| subject.count(code)));
    let here = text(move || subject::place(explain.position.get(), explain.grid()));
    view! {
        <p class="code-name" id="code">
            <Tile token=code/>
            {text(move || format!("Code {}, used {} in this image", code.0, match count() {
                1 => "once".to_owned(),
                count => format!("{count} times"),
            }))}
        </p>
        <button type="button" class="secondary" data-testid="paint" on:click=move |_| controller.ask(explain.paint(code))>
            "Paint it at "{here}
        </button>
        <button type="button" class="quiet" on:click=move |_| explain.code.set(None)>"Choose none"</button>
        <Show when=move || explain.painted.with(Option::is_some)>
            <Painted/>
        </Show>
    }
}

/// The image with another token, and where it differs.
#[component]
fn Painted() -> impl IntoView {
    let explain = controller().app.explain;
    let (picture, difference) = (NodeRef::<Canvas>::new(), NodeRef::<Canvas>::new());
    Effect::new(move |_| {
        let (Some(picture), Some(difference)) = (picture.get(), difference.get()) else { return };
        if let (Some(painted), Some(whole)) = (explain.painted.get(), explain.whole.get()) {
            draw_moment(&picture, &painted, usize::MAX, explain.grid());
            draw_difference(&difference, &painted, &whole);
        }
    });
    let size = text(move || (explain.grid() * TILE).to_string());
    view! {
        <div class="painted">
            <figure>
                <div class="plate"><canvas node_ref=picture width=size height=size role="img" aria-label="The image with this code" data-testid="painted"></canvas></div>
                <p class="hint">"With this code"</p>
            </figure>
            <figure>
                <div class="plate"><canvas node_ref=difference width=size height=size role="img" aria-label="Where the pixels differ" data-testid="difference"></canvas></div>
                <p class="hint">"What it changes: more than its own eight by eight pixels"</p>
            </figure>
        </div>
    }
}

/// The codes of the image as a table.
#[component]
fn Inventory() -> impl IntoView {
    let explain = controller().app.explain;
    let rows = move || {
        let inventory =
            explain.subject.with(|subject| subject.as_ref().map(|own| own.inventory()).unwrap_or_default());
        inventory
            .into_iter()
            .map(|(token, count)| view! { <tr><th scope="row">{token.0}</th><td>{count}</td></tr> })
            .collect_view()
    };
    view! {
        <details class="as-table">
            <summary>"The codes of this image as a table"</summary>
            <table>
                <thead><tr><th scope="col">"Code"</th><th scope="col">"Times used"</th></tr></thead>
                <tbody>{rows}</tbody>
            </table>
        </details>
    }
}
