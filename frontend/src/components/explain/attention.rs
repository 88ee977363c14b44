//! What a layer of the prior attends to when it predicts the token at the position on the timeline: a map for each head, and the
//! caption's tokens.

use std::sync::Arc;

use dalle_shared::{Attention, AttentionPattern};
use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::text::text;
use super::cells::cell_style;
use crate::canvas::draw_weights;
use crate::controller::controller;
use crate::format;
use crate::subject;

#[component]
pub fn AttentionLens() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let known = move || {
        explain
            .attention
            .get()
            .filter(|known| known.0 == explain.position.get() && known.1 == explain.layer.get())
    };
    let layers =
        Memo::new(move |_| explain.attention.with(|known| known.as_ref().map_or(1, |known| known.2.layers)));
    view! {
        <Show
            when=move || explain.has_prior()
            fallback=|| view! { <p class="hint">"This model's prior is too large for a browser, so that its attention is not known here."</p> }
        >
            <div class="layer-choice">
                <label for="layer">"Layer"</label>
                <input
                    id="layer"
                    data-testid="layer"
                    type="range"
                    min="1"
                    max=text(move || layers.get().to_string())
                    prop:value=text(move || (explain.layer.get() + 1).to_string())
                    aria-valuetext=text(move || format!("{} of {}", explain.layer.get() + 1, layers.get()))
                    on:input:target=move |event| {
                        if let Ok(layer) = event.target().value().parse::<usize>() {
                            explain.layer.set(layer.saturating_sub(1));
                            controller.ask(explain.ask_lens());
                        }
                    }
                />
                <span class="hint">{text(move || format!("{} of {}", explain.layer.get() + 1, layers.get()))}</span>
            </div>
            {move || match known() {
                Some(known) => {
                    let (position, _, attention) = Arc::unwrap_or_clone(known);
                    view! { <Maps position attention/> }.into_any()
                }
                None => view! { <p class="hint">"Reading the image again…"</p> }.into_any(),
            }}
        </Show>
    }
}

fn describe(pattern: AttentionPattern) -> &'static str {
    match pattern {
        AttentionPattern::Row => "Row attention: this layer sees the tokens before, back to the one above.",
        AttentionPattern::Column => "Column attention: this layer sees the same column in the rows above.",
        AttentionPattern::Conv => {
            "Convolutional attention: this layer sees a square around the token, as far as it is there."
        }
    }
}

#[component]
fn Maps(position: usize, attention: Attention) -> impl IntoView {
    let explain = controller().app.explain;
    let Attention { pattern, heads, text, positions, image, .. } = attention;
    let query = match position {
        0 => "The first token sees the caption alone.".to_owned(),
        _ => format!(
            "{} The stronger the colour, the more it counts; empty cells are not seen.",
            describe(pattern)
        ),
    };
    // The first token sees none, and needs no maps.
    let shown_heads = if positions.is_empty() { 0 } else { heads };
    let maps = (0..shown_heads)
        .map(|head| {
            let weights: Vec<(usize, f32)> = positions
                .iter()
                .zip(&image[head * positions.len()..])
                .map(|(position, weight)| (*position, *weight))
                .collect();
            let share: f32 = weights.iter().map(|(_, weight)| weight).sum();
            view! { <Map head weights share position/> }
        })
        .collect_view();
    let slots = text.len() / heads.max(1);
    let mean =
        |slot: usize| (0..heads).map(|head| text[head * slots + slot]).sum::<f32>() / heads.max(1) as f32;
    let means: Vec<f32> = (0..slots).map(mean).collect();
    let rows = positions
        .iter()
        .enumerate()
        .map(|(index, position)| {
            let cells = (0..heads)
                .map(|head| view! { <td>{format::percent(f64::from(image[head * positions.len() + index]))}</td> })
                .collect_view();
            view! { <tr><th scope="row">{subject::place(*position, explain.grid())}</th>{cells}</tr> }
        })
        .collect_view();
    let columns =
        (1..=heads).map(|head| view! { <th scope="col">{format!("Head {head}")}</th> }).collect_view();
    view! {
        <p class="hint">{query}</p>
        <div class="maps" data-testid="maps">{maps}</div>
        <p class="hint">"Caption, all heads:"</p>
        <Words means/>
        <details class="as-table">
            <summary>"The weights of the image as a table"</summary>
            <table data-testid="attention-table">
                <thead><tr><th scope="col">"Token"</th>{columns}</tr></thead>
                <tbody>{rows}</tbody>
            </table>
        </details>
    }
}

/// What one head attends to in the image.
#[component]
fn Map(head: usize, weights: Vec<(usize, f32)>, share: f32, position: usize) -> impl IntoView {
    let explain = controller().app.explain;
    let canvas = NodeRef::<Canvas>::new();
    let grid = untrack(|| explain.grid());
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            draw_weights(&canvas, &weights, grid);
        }
    });
    let spot = cell_style(position, grid);
    let label = format!("Head {}: {} on the image", head + 1, format::percent(f64::from(share)));
    view! {
        <figure>
            <div class="plate">
                <canvas class="mosaic" node_ref=canvas width=grid.to_string() height=grid.to_string() role="img" aria-label=label.clone()></canvas>
                <span class="spot" style=spot></span>
            </div>
            <p class="hint">{label}</p>
        </figure>
    }
}

/// The caption's tokens with their weights.
#[component]
fn Words(means: Vec<f32>) -> impl IntoView {
    let app = controller().app;
    let pieces = untrack(|| {
        let caption = app.displayed.get().map(|prompt| prompt.caption).unwrap_or_default();
        app.model.with(|model| {
            let model = model.as_ref()?;
            let encoding = model.tokenizer.encode(&caption, model.geometry().caption_length()).ok()?;
            Some(encoding.pieces)
        })
    })
    .unwrap_or_default();
    let padding: f32 = means.iter().skip(pieces.len() + 1).sum();
    let words = std::iter::once("start".to_owned()).chain(pieces).zip(means);
    let chips = words
        .chain((padding > 0.0).then(|| ("padding".to_owned(), padding)))
        .map(|(word, weight)| {
            let strength = format!("--weight:{:.0}%", (weight * 100.0).sqrt() * 10.0);
            view! { <li style=strength><span>{word}</span>" "<small>{format::percent(f64::from(weight))}</small></li> }
        })
        .collect_view();
    view! { <ol class="words" data-testid="words">{chips}</ol> }
}
