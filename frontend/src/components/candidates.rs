//! All images that were sampled where more are sampled than shown large, small and in their order, with their scores.

use gloo_timers::future::TimeoutFuture;
use leptos::html::Canvas;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::text::{flag, text};
use crate::canvas::{draw_mosaic, draw_pixels};
use crate::controller::{app, controller};
use crate::generation::GenerationInput;
use crate::ranking::Ranking;
use crate::state::{App, Image};
use crate::{browser, format};

/// Scores closer together than this belong to images that look alike.
const ALIKE: f32 = 0.01;

/// The row of small images. Pressing one shows it large.
#[component]
pub fn Candidates() -> impl IntoView {
    let app = app();
    let is_choice = move || {
        app.displayed.with(Option::is_some)
            && app.ranking.with(|ranking| ranking.shown().len() < ranking.order().len())
    };
    let title = text(move || {
        app.ranking.with(|ranking| match ranking.is_scored() {
            true => format!("All {} images, the best first", ranking.order().len()),
            false => format!("All {} images", ranking.order().len()),
        })
    });
    let images = move || app.images_of(Ranking::order);
    let focused = RwSignal::new(None::<usize>);
    keep_focus(app, focused);
    view! {
        <Show when=is_choice>
            <section class="candidates" aria-labelledby="candidates-title">
                <h2 id="candidates-title">{title}</h2>
                <p class="hint">{text(move || hint(app).to_owned())}</p>
                <ol data-testid="candidates">
                    <For each=images key=|(_, image)| image.tokens.clone() let((index, image))>
                        <Candidate index image focused/>
                    </For>
                </ol>
            </section>
        </Show>
    }
}

fn hint(app: App) -> &'static str {
    app.ranking.with(|ranking| match ranking.spread() {
        _ if !ranking.is_scored() && !app.phase.get().is_active() => {
            "No scores: the generation stopped early."
        }
        None => "CLIP scores how well each image fits the caption, at half of its tokens and at the end.",
        Some(spread) if spread < ALIKE => {
            "Nearly identical. Raise the temperature in Settings for more variety. Press one to see it large."
        }
        Some(_) => {
            "CLIP scored how well each image fits the caption. Of nearly equal scores, the image most like the others is first. \
            Press one to see it large, and again to go back."
        }
    })
}

/// Sorting moves elements, and one that is moved loses the focus: gives it back.
fn keep_focus(app: App, focused: RwSignal<Option<usize>>) {
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
}

fn id(index: usize) -> String {
    format!("candidate-{}", index + 1)
}

#[component]
fn Candidate(index: usize, image: Image, focused: RwSignal<Option<usize>>) -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let tokens = RwSignal::from(image.tokens);
    let shown = RwSignal::from(image.shown);
    let geometry = Memo::new(move |_| app.geometry());
    let grid = move || geometry.get().grid;
    let (side, size) =
        (Signal::derive(move || geometry.get().grid), Signal::derive(move || geometry.get().image_size));
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
                aria-pressed=flag(move || large.get())
                aria-label=text(move || match score() {
                    Some(score) => format!("Show image {}, score {}", index + 1, format::score(score)),
                    None => format!("Show image {}", index + 1),
                })
                on:click=move |_| controller.generation(GenerationInput::Prefer(index))
                on:focus=move |_| focused.set(Some(index))
                on:blur=move |event| if event.related_target().is_some() { focused.set(None) }
            >
                <span class="plate">
                    <canvas class="mosaic" node_ref=mosaic width=side height=side></canvas>
                    <canvas node_ref=pixels width=size height=size></canvas>
                </span>
                <span class="score">{text(move || score().map_or_else(|| "–".to_owned(), format::score))}</span>
            </button>
        </li>
    }
}
