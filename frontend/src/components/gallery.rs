//! All pictures of a generation.

use leptos::prelude::*;

use super::app;
use super::candidates::Candidates;
use super::picture::PictureCard;
use crate::state::App;
use crate::{browser, format};

#[component]
pub fn Gallery() -> impl IntoView {
    let app = app();
    let pictures = move || {
        app.pictures.with(|pictures| {
            let picture = |&index: &usize| pictures.get(index).map(|picture| (index, picture.clone()));
            app.ranking.with(|ranking| ranking.shown().iter().filter_map(picture).collect::<Vec<_>>())
        })
    };
    let shown = move || app.ranking.with(|ranking| ranking.shown().len());
    let license = move || app.model.with(|model| model.as_ref().map(|model| model.manifest.license.clone()));
    view! {
        <figure class="sheet" data-count=shown>
            <div class="pictures">
                <ForEnumerate
                    each=pictures
                    key=|(_, picture)| picture.tokens.clone()
                    children=move |place, (index, picture)| view! { <PictureCard place index picture/> }
                />
            </div>
            <figcaption>
                {move || app.current.get().map(|current| view! {
                    <q>{current.caption}</q>
                    <span class="by">"seed " {current.request.seed.0}</span>
                    {current.request.best_of.map(|drawn| view! {
                        <span class="by">{move || chosen(app, drawn)}</span>
                    })}
                    {given(app, current.request.prefix.len()).map(|given| view! { <span class="by">{given}</span> })}
                    <CopyLink/>
                })}
                <span class="license">{license}</span>
            </figcaption>
            <Candidates/>
        </figure>
    }
}

/// What of the pictures drawn is shown.
fn chosen(app: App, drawn: usize) -> String {
    app.ranking.with(|ranking| match ranking.shown().len() {
        _ if ranking.is_preferred() => format!("your choice of {drawn}"),
        1 => format!("the best of {drawn}"),
        shown => format!("the best {shown} of {drawn}"),
    })
}

/// How much of the pictures was given, if anything was.
fn given(app: App, tokens: usize) -> Option<String> {
    let grid = app.model.with(|model| model.as_ref().map(|model| model.manifest.geometry.grid))?;
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
