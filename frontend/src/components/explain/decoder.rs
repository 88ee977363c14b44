//! What the decoder paints after each of its four groups of layers, and what another token at the position on the timeline changes
//! there: how far one token reaches.

use std::sync::Arc;

use dalle_shared::ImageToken;
use leptos::html::Canvas;
use leptos::prelude::*;
use web_sys::HtmlCanvasElement;

use super::super::text::{flag, text};
use super::cells::cell_style;
use super::probabilities::Tile;
use crate::canvas::{draw_difference, draw_moment};
use crate::controller::controller;
use crate::explain::{DecoderView, Explain};
use crate::format;
use crate::stages::{STAGES, Stages};
use crate::subject;

#[component]
pub fn DecoderLens() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let choice = move |view: DecoderView, name: &'static str, label: &'static str| {
        view! {
            <button
                type="button"
                class="example"
                data-testid=name
                aria-pressed=flag(move || explain.decoder_view.get() == view)
                on:click=move |_| {
                    explain.decoder_view.set(view);
                    controller.ask(explain.ask_lens());
                }
            >
                {label}
            </button>
        }
    };
    view! {
        <div class="branches" role="group" aria-label="What is shown">
            {choice(DecoderView::Stages, "view-stages", "The image in four steps")}
            {choice(DecoderView::Change, "view-change", "What this token changes")}
        </div>
        {move || match explain.decoder_view.get() {
            DecoderView::Stages => view! { <Steps/> }.into_any(),
            DecoderView::Change => view! { <Change/> }.into_any(),
        }}
    }
}

/// A row of canvases, one for each stage.
#[component]
fn Frames(
    /// Draws a stage.
    draw: fn(Explain, &HtmlCanvasElement, usize),
    /// What the pictures show, in words.
    label: &'static str,
) -> impl IntoView {
    let explain = controller().app.explain;
    let frames = (0..STAGES)
        .map(|stage| {
            let canvas = NodeRef::<Canvas>::new();
            Effect::new(move |_| {
                if let Some(canvas) = canvas.get() {
                    draw(explain, &canvas, stage);
                }
            });
            let side = move || Stages::side(explain.grid(), stage);
            let size = text(move || side().to_string());
            let caption = text(move || format!("Step {}: {} × {} pixels", stage + 1, side(), side()));
            let spot = text(move || cell_style(explain.position.get(), explain.grid()));
            view! {
                <figure>
                    <div class="plate">
                        <canvas
                            class="mosaic"
                            node_ref=canvas
                            width=size
                            height=size
                            role="img"
                            aria-label=text(move || format!("{label}, step {}", stage + 1))
                            data-testid=format!("stage-{}", stage + 1)
                        ></canvas>
                        <span class="spot" style=spot></span>
                    </div>
                    <p class="hint">{caption}</p>
                </figure>
            }
        })
        .collect_view();
    view! { <div class="frames">{frames}</div> }
}

/// The stages of the image so far.
#[component]
fn Steps() -> impl IntoView {
    let explain = controller().app.explain;
    let draw = |explain: Explain, canvas: &HtmlCanvasElement, stage| {
        if let Some(stages) = explain.stages.get() {
            let (stages, known) = &*stages;
            draw_moment(canvas, stages.rgba(stage), *known, explain.grid());
        }
    };
    let rows = move || {
        let stages = explain.stages.get();
        let grid = explain.grid();
        stages.map(|stages| {
            let (stages, known) = &*stages;
            (0..STAGES)
                .map(|stage| {
                    let side = Stages::side(grid, stage);
                    let cell = side / grid;
                    view! {
                        <tr>
                            <th scope="row">{stage + 1}</th>
                            <td>{format!("{side} × {side}")}</td>
                            <td>{format!("{cell} × {cell}")}</td>
                            <td>{format!("{:.1}", stages.distance_from_image(stage, *known))}</td>
                        </tr>
                    }
                })
                .collect_view()
        })
    };
    view! {
        <Frames draw label="The image"/>
        <p class="hint">
            "The decoder has four groups of layers, and all but the first double the resolution. Each step shows what it would paint \
            if the later groups added nothing: their residual paths are left out. The last step is the image."
        </p>
        <details class="as-table">
            <summary>"The steps as a table"</summary>
            <table data-testid="stages-table">
                <thead>
                    <tr>
                        <th scope="col">"Step"</th>
                        <th scope="col">"Pixels"</th>
                        <th scope="col">"Pixels of a token"</th>
                        <th scope="col">"Mean difference from the image, of 255"</th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </details>
    }
}

/// The stages of the first tokens, and how many these are.
type Whole = Arc<(Stages, usize)>;
/// The stages with another token at a position, the position and the token.
type Changed = Arc<(Stages, usize, ImageToken)>;

/// The stages of the whole image, and with another token at the position on the timeline, once both are known.
fn pair(explain: Explain) -> Option<(Whole, Changed)> {
    let (position, code) = (explain.position.get(), explain.replacement()?);
    let whole = explain.stages.get().filter(|stages| stages.1 == explain.length())?;
    let changed = explain.changed.get().filter(|changed| (changed.1, changed.2) == (position, code))?;
    Some((whole, changed))
}

/// What another token changes at each stage.
#[component]
fn Change() -> impl IntoView {
    let explain = controller().app.explain;
    let draw = |explain: Explain, canvas: &HtmlCanvasElement, stage| {
        // Those of the position before stay until the new ones are known, so that nothing flickers.
        if let Some((whole, changed)) = pair(explain) {
            draw_difference(canvas, changed.0.rgba(stage), whole.0.rgba(stage));
        }
    };
    let summary = text(move || {
        let Some((whole, changed)) = pair(explain) else { return "Decoding…".to_owned() };
        let difference = whole.0.difference(&changed.0, STAGES - 1, explain.position.get());
        let count = |number: usize| format::count(number as u64);
        match difference.reach() {
            None => "It changes no pixel.".to_owned(),
            Some(reach) => format!(
                "It changes {} of {} pixels, up to {} away. {} of the change is outside its own 8 × 8 pixels.",
                count(difference.changed()),
                count(difference.pixels()),
                format::plural(reach, "token"),
                format::percent(difference.outside())
            ),
        }
    });
    let steps = move || {
        let (whole, changed) = pair(explain)?;
        let row = |stage: usize| {
            let difference = whole.0.difference(&changed.0, stage, explain.position.get());
            let reach = difference.reach().map_or("–".to_owned(), |reach| reach.to_string());
            view! {
                <tr>
                    <th scope="row">{stage + 1}</th>
                    <td>{format::count(difference.changed() as u64)}" of "{format::count(difference.pixels() as u64)}</td>
                    <td>{reach}</td>
                    <td>{difference.most()}</td>
                </tr>
            }
        };
        Some((0..STAGES).map(row).collect_view())
    };
    let rings = move || {
        let (whole, changed) = pair(explain)?;
        let difference = whole.0.difference(&changed.0, STAGES - 1, explain.position.get());
        let rows = difference.rings.into_iter().enumerate().map(|(distance, ring)| {
            view! {
                <tr>
                    <th scope="row">{if distance == 0 { "0: its own pixels".to_owned() } else { distance.to_string() }}</th>
                    <td>{format::count(ring.changed as u64)}" of "{format::count(ring.pixels as u64)}</td>
                    <td>{format!("{:.2}", ring.mean())}</td>
                    <td>{ring.most}</td>
                </tr>
            }
        });
        Some(rows.collect_view())
    };
    view! {
        <Replacement/>
        <p data-testid="influence">{summary}</p>
        <Frames draw label="Where the pixels differ"/>
        <p class="hint">"The stronger the colour, the more the pixel differs: pale from 1 of 255 on, full from 64 on."</p>
        <details class="as-table">
            <summary>"The change as tables"</summary>
            <table data-testid="influence-steps">
                <thead>
                    <tr>
                        <th scope="col">"Step"</th>
                        <th scope="col">"Pixels that change"</th>
                        <th scope="col">"Farthest, in tokens"</th>
                        <th scope="col">"Largest change, of 255"</th>
                    </tr>
                </thead>
                <tbody>{steps}</tbody>
            </table>
            <table data-testid="influence-rings">
                <thead>
                    <tr>
                        <th scope="col">"Distance in tokens"</th>
                        <th scope="col">"Pixels that change"</th>
                        <th scope="col">"Mean change, of 255"</th>
                        <th scope="col">"Largest change, of 255"</th>
                    </tr>
                </thead>
                <tbody>{rings}</tbody>
            </table>
        </details>
    }
}

/// Which code takes which token's place.
#[component]
fn Replacement() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let choose = move |code: Option<ImageToken>| {
        explain.code.set(code);
        controller.ask(explain.ask_lens());
    };
    let present = Memo::new(move |_| {
        explain.subject.with(|subject| subject.as_ref()?.tokens.get(explain.position.get()).copied())
    });
    let replacement = Memo::new(move |_| explain.replacement());
    let place = text(move || {
        let code = present.get().map_or(0, |code| code.0);
        format!("At {}, instead of code {code}:", subject::place(explain.position.get(), explain.grid()))
    });
    let shown = text(move || replacement.get().map_or(String::new(), |code| code.0.to_string()));
    let last = text(move || explain.vocab().saturating_sub(1).to_string());
    view! {
        <div class="replacement">
            {move || present.get().map(|token| view! { <Tile token/> })}
            <label for="replacement">{place}</label>
            <input
                id="replacement"
                data-testid="replacement"
                type="number"
                min="0"
                max=last
                prop:value=shown
                on:change:target=move |event| {
                    let code = event.target().value().parse().ok().filter(|code| usize::from(*code) < untrack(|| explain.vocab()));
                    choose(code.map(ImageToken));
                }
            />
            {move || replacement.get().map(|token| view! { <Tile token/> })}
            <button type="button" class="quiet" data-testid="least-like" on:click=move |_| choose(None)>"The most different code"</button>
        </div>
    }
}
