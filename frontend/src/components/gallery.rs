//! All pictures of a generation.

use dalle_shared::Seed;
use leptos::prelude::*;

use super::candidates::Candidates;
use super::picture::PictureCard;
use crate::ranking::Ranking;
use crate::state::{App, app};
use crate::{browser, format};

#[component]
pub fn Gallery() -> impl IntoView {
    let app = app();
    let images = move || app.images_of(Ranking::shown);
    let shown = move || app.ranking.with(|ranking| ranking.shown().len());
    let license = move || app.model.with(|model| model.as_ref().map(|model| model.manifest.license.clone()));
    view! {
        <figure class="sheet" data-count=shown>
            <div class="pictures">
                <ForEnumerate
                    each=images
                    key=|(_, image)| image.tokens.clone()
                    children=move |place, (index, image)| view! { <PictureCard place index image/> }
                />
            </div>
            <figcaption>
                {move || app.displayed.get().map(|prompt| view! {
                    <q>{prompt.caption}</q>
                    <span class="by">"seed " {move || seed(app, prompt.request.seed)}</span>
                    {move || chosen(app, prompt.request.best_of).map(|chosen| view! {
                        <span class="by">{chosen}</span>
                    })}
                    {given(app, prompt.request.prefix.len()).map(|given| view! { <span class="by">{given}</span> })}
                    <CopyLink/>
                })}
                <span class="license">{license}</span>
            </figcaption>
            <Candidates/>
        </figure>
    }
}

/// What of the pictures drawn is shown, once that is known.
fn chosen(app: App, drawn: Option<usize>) -> Option<String> {
    let drawn = drawn?;
    app.ranking.with(|ranking| {
        let (shown, preferred) = (ranking.shown().len(), ranking.preferred().len());
        let best =
            |count: usize| if count == 1 { "the best".to_owned() } else { format!("the best {count}") };
        match preferred {
            0 => ranking.is_scored().then(|| format!("{} of {drawn}", best(shown))),
            _ if preferred < shown => Some(format!("your choice and {} of {drawn}", best(shown - preferred))),
            _ => Some(format!("your choice of {drawn}")),
        }
    })
}

/// The seed that draws the picture on display alone; of several, that of the first drawn.
fn seed(app: App, first: Seed) -> u64 {
    let sample = app.ranking.with(|ranking| match *ranking.shown() {
        [only] => only,
        _ => 0,
    });
    first.of_sample(sample).0
}

/// How much of the pictures was given, if anything was.
fn given(app: App, tokens: usize) -> Option<String> {
    let grid = app.geometry().grid;
    (tokens > 0).then(|| format!("first {} given", format::plural(tokens / grid, "row")))
}

/// Copies the link to what is on display.
#[component]
fn CopyLink() -> impl IntoView {
    let app = app();
    let copied = RwSignal::new(false);
    let copy = move |_| {
        let Some(link) = app.link() else { return };
        browser::set_fragment(&link.to_fragment());
        match browser::copy_address() {
            Some(copying) => leptos::task::spawn_local(async move {
                if copying.await.is_ok() {
                    copied.try_set(true);
                }
            }),
            None => app
                .notice
                .set(Some("This browser copies nothing here. The link is in the address bar.".to_owned())),
        }
    };
    view! {
        <button type="button" class="quiet" data-testid="copy-link" on:click=copy>
            {move || if copied.get() { "Link copied" } else { "Copy link" }}
        </button>
    }
}
