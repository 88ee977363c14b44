//! All pictures that were drawn where more are drawn than shown large, small and in their order, with their scores.

use leptos::html::Canvas;
use leptos::prelude::*;

use super::app;
use crate::canvas::{draw_mosaic, draw_pixels};
use crate::state::Picture;
use crate::{decoding, format};

/// The row of small pictures. Pressing one shows it large.
#[component]
pub fn Candidates() -> impl IntoView {
    let app = app();
    let title = Memo::new(move |_| {
        app.ranking.with(|ranking| match ranking.is_scored() {
            true => format!("All {} drawn, the best first", ranking.order().len()),
            false => format!("All {} that are drawn", ranking.order().len()),
        })
    });
    let is_choice = move || app.ranking.with(|ranking| ranking.shown().len() < ranking.order().len());
    let pictures = move || {
        app.pictures.with(|pictures| {
            let picture = |&index: &usize| pictures.get(index).map(|picture| (index, picture.clone()));
            app.ranking.with(|ranking| ranking.order().iter().filter_map(picture).collect::<Vec<_>>())
        })
    };
    view! {
        <Show when=is_choice>
            <section class="candidates" aria-labelledby="candidates-title">
                <h2 id="candidates-title">{title}</h2>
                <p class="hint">
                    "The contrastive model compares each picture with the caption and gives it a score. Press another to see it large."
                </p>
                <ol data-testid="candidates">
                    <For each=pictures key=|(_, picture)| picture.tokens.clone() let((index, picture))>
                        <Candidate index picture/>
                    </For>
                </ol>
            </section>
        </Show>
    }
}

#[component]
fn Candidate(index: usize, picture: Picture) -> impl IntoView {
    let app = app();
    let tokens = RwSignal::from(picture.tokens);
    let shown = RwSignal::from(picture.shown);
    let geometry = Memo::new(move |_| app.geometry());
    let grid = move || geometry.get().0;
    let (mosaic, pixels) = (NodeRef::<Canvas>::new(), NodeRef::<Canvas>::new());
    Effect::new(move |_| {
        if let Some(canvas) = mosaic.get() {
            tokens.with(|tokens| draw_mosaic(&canvas, tokens, grid()));
        }
    });
    Effect::new(move |_| {
        if let Some(canvas) = pixels.get() {
            shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), grid()));
        }
    });
    let score = move || app.ranking.with(|ranking| ranking.score(index));
    let large = Memo::new(move |_| app.ranking.with(|ranking| ranking.shown().contains(&index)));
    let prefer = move |_| {
        app.ranking.update(|ranking| ranking.prefer(index));
        decoding::shown_changed(app);
    };
    view! {
        <li>
            <button
                type="button"
                class="candidate"
                data-testid=format!("candidate-{}", index + 1)
                aria-pressed=move || large.get().to_string()
                aria-label=move || match score() {
                    Some(score) => format!("Show drawing {}, score {}", index + 1, format::score(score)),
                    None => format!("Show drawing {}", index + 1),
                }
                on:click=prefer
            >
                <span class="plate">
                    <canvas class="mosaic" node_ref=mosaic width=grid height=grid></canvas>
                    <canvas node_ref=pixels width=move || geometry.get().1 height=move || geometry.get().1></canvas>
                </span>
                <span class="score">{move || score().map_or_else(|| "–".to_owned(), format::score)}</span>
            </button>
        </li>
    }
}
