//! All pictures that were drawn where more are drawn than shown large, small and in their order, with their scores.

use gloo_timers::future::TimeoutFuture;
use leptos::html::Canvas;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::app;
use crate::canvas::{draw_mosaic, draw_pixels};
use crate::ranking::Ranking;
use crate::state::Picture;
use crate::{browser, format, generation};

/// Scores closer together than this are of pictures that look alike.
const ALIKE: f32 = 0.01;

/// The row of small pictures. Pressing one shows it large.
#[component]
pub fn Candidates() -> impl IntoView {
    let app = app();
    let is_choice = move || {
        let begun = app.phase.with(|phase| phase.is_active()) || app.tally.with(|tally| tally.tokens > 0);
        begun && app.ranking.with(|ranking| ranking.shown().len() < ranking.order().len())
    };
    let title = Memo::new(move |_| {
        app.ranking.with(|ranking| match ranking.is_scored() {
            true => format!("All {} drawn, the best first", ranking.order().len()),
            false => format!("All {} that are drawn", ranking.order().len()),
        })
    });
    let hint = Memo::new(move |_| {
        app.ranking.with(|ranking| match ranking.spread() {
            _ if !ranking.is_scored() && !app.phase.get().is_active() => "They have no scores: it ended before.",
            None => "The contrastive model scores how well each fits the caption when half of it is there, and at the end.",
            Some(spread) if spread < ALIKE => {
                "They are as good as alike: at a higher temperature (Settings) they differ more. Press one to see it large."
            }
            Some(_) => {
                "The contrastive model compared each with the caption. Press another to see it large, and again to return."
            }
        })
    });
    let pictures = move || app.drawn(Ranking::order);
    // Sorting moves elements, and one that is moved loses the focus.
    let focused = RwSignal::new(None::<usize>);
    Effect::new(move |_| {
        app.ranking.with(|ranking| ranking.order().to_vec());
        if let Some(index) = focused.get_untracked() {
            spawn_local(async move {
                TimeoutFuture::new(0).await;
                if browser::nothing_has_focus() {
                    browser::focus(&id(index));
                }
            });
        }
    });
    view! {
        <Show when=is_choice>
            <section class="candidates" aria-labelledby="candidates-title">
                <h2 id="candidates-title">{title}</h2>
                <p class="hint">{hint}</p>
                <ol data-testid="candidates">
                    <For each=pictures key=|(_, picture)| picture.tokens.clone() let((index, picture))>
                        <Candidate index picture focused/>
                    </For>
                </ol>
            </section>
        </Show>
    }
}

fn id(index: usize) -> String {
    format!("candidate-{}", index + 1)
}

#[component]
fn Candidate(index: usize, picture: Picture, focused: RwSignal<Option<usize>>) -> impl IntoView {
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
    view! {
        <li>
            <button
                type="button"
                class="candidate"
                id=id(index)
                data-testid=id(index)
                aria-pressed=move || large.get().to_string()
                aria-label=move || match score() {
                    Some(score) => format!("Show drawing {}, score {}", index + 1, format::score(score)),
                    None => format!("Show drawing {}", index + 1),
                }
                on:click=move |_| generation::prefer(app, index)
                on:focus=move |_| focused.set(Some(index))
                on:blur=move |event| if event.related_target().is_some() { focused.set(None) }
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
