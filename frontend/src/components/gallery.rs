//! The images of a generation that are shown large, and what they were asked for.

use dalle_shared::Seed;
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::candidates::Candidates;
use super::picture::Picture;
use super::text::text;
use crate::controller::app;
use crate::ranking::Ranking;
use crate::session::Prompt;
use crate::state::App;
use crate::{actions, format};

/// How long the button says that the link is copied.
const COPIED_MS: u32 = 3_000;

#[component]
pub fn Gallery() -> impl IntoView {
    let app = app();
    let images = move || app.images_of(Ranking::shown);
    let shown = move || app.ranking.with(|ranking| ranking.shown().len());
    let license = text(move || {
        app.model.with(|model| model.as_ref().map(|model| model.manifest.license.clone()).unwrap_or_default())
    });
    view! {
        <figure class="sheet" data-count=text(move || shown().to_string())>
            <div class="pictures">
                <ForEnumerate
                    each=images
                    key=|(_, image)| image.tokens.clone()
                    children=move |place, (index, image)| view! { <Picture place index image/> }
                />
            </div>
            <figcaption>
                {move || app.displayed.get().map(|prompt| view! { <Asked prompt/> })}
                <span class="license">{license}</span>
            </figcaption>
            <Candidates/>
        </figure>
    }
}

/// What the images were asked for.
#[component]
fn Asked(prompt: Prompt) -> impl IntoView {
    let app = app();
    let Prompt { caption, request } = prompt;
    view! {
        <q dir="auto" data-testid="asked" title=caption>{caption.clone()}</q>
        <span class="by">{text(move || format!("seed {}", seed(app, request.seed)))}</span>
        {move || chosen(app, request.best_of).map(|chosen| view! { <span class="by">{chosen}</span> })}
        {kept(app, request.prefix.len()).map(|kept| view! { <span class="by">{kept}</span> })}
        <CopyLink/>
    }
}

/// Which of the sampled images are shown, once that is known.
fn chosen(app: App, sampled: Option<usize>) -> Option<String> {
    let sampled = sampled?;
    app.ranking.with(|ranking| {
        let (shown, preferred) = (ranking.shown().len(), ranking.preferred().len());
        let best =
            |count: usize| if count == 1 { "the best".to_owned() } else { format!("the best {count}") };
        match preferred {
            0 => ranking.is_scored().then(|| format!("{} of {sampled}", best(shown))),
            _ if preferred < shown => {
                Some(format!("your choice and {} of {sampled}", best(shown - preferred)))
            }
            _ => Some(format!("your choice of {sampled}")),
        }
    })
}

/// The seed that samples the image on display alone; of several, that of the first sampled.
fn seed(app: App, first: Seed) -> u64 {
    let sample = app.ranking.with(|ranking| match *ranking.shown() {
        [only] => only,
        _ => 0,
    });
    first.of_sample(sample).0
}

/// How many rows were kept from another image, if any were.
fn kept(app: App, tokens: usize) -> Option<String> {
    (tokens > 0).then(|| format!("first {} kept", format::plural(tokens / app.geometry().grid, "row")))
}

/// Copies the link to what is on display.
#[component]
fn CopyLink() -> impl IntoView {
    let app = app();
    let copied = RwSignal::new(false);
    let copy = move |_| match actions::copy_link(app) {
        Some(copying) => spawn_local(async move {
            if copying.await.is_ok() {
                copied.try_set(true);
                TimeoutFuture::new(COPIED_MS).await;
                copied.try_set(false);
            }
        }),
        None => {
            let text = "This browser does not allow copying here. The link is in the address bar.";
            app.notice.set(Some(text.to_owned()));
        }
    };
    view! {
        <button type="button" class="quiet" data-testid="copy-link" on:click=copy>
            {text(move || if copied.get() { "Link copied" } else { "Copy link" }.to_owned())}
        </button>
    }
}
