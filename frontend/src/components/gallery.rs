//! The images of a generation that are shown large, and what they were asked for.

use leptos::prelude::*;

use super::candidates::Candidates;
use super::copied::say_copied;
use super::picture::Picture;
use super::text::{flag, text};
use crate::controller::{app, controller};
use crate::ranking::Ranking;
use crate::session::Prompt;
use crate::state::App;
use crate::{actions, browser, format};

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

/// What the images were asked for, and what can be done with all of them.
#[component]
fn Asked(prompt: Prompt) -> impl IntoView {
    let app = app();
    let (caption, sampled, kept_tokens) =
        (prompt.caption.clone(), prompt.request.best_of, prompt.request.prefix.len());
    view! {
        <q dir="auto" data-testid="asked" title=caption>{caption.clone()}</q>
        <span class="by">{text(move || format!("seed {}", seed(app, &prompt)))}</span>
        {move || chosen(app, sampled).map(|chosen| view! { <span class="by">{chosen}</span> })}
        {kept(app, kept_tokens).map(|kept| view! { <span class="by">{kept}</span> })}
        <span class="by-actions">
            <Mark/>
            <CopyLink/>
            <SaveSheet/>
        </span>
    }
}

/// Marks what is on display as a favourite, or deletes it.
#[component]
fn Mark() -> impl IntoView {
    let controller = controller();
    let history = controller.app.history;
    let current = Memo::new(move |_| {
        history
            .current
            .get()
            .and_then(|key| history.get(key))
            .map(|entry| (entry.key(), entry.saved.favourite))
    });
    let is_favourite = move || current.get().is_some_and(|(_, favourite)| favourite);
    view! {
        <Show when=move || current.get().is_some()>
            <button
                type="button"
                class="quiet"
                data-testid="favourite"
                aria-pressed=flag(is_favourite)
                on:click=move |_| if let Some((key, _)) = current.get_untracked() { history.toggle_favourite(key) }
            >
                <span aria-hidden="true">{move || if is_favourite() { "★ " } else { "☆ " }}</span>
                "Favourite"
            </button>
            <button
                type="button"
                class="quiet"
                data-testid="delete"
                on:click=move |_| if let Some((key, _)) = current.get_untracked() {
                    actions::delete(controller, key);
                    browser::focus("result");
                }
            >
                "Delete"
            </button>
        </Show>
    }
}

/// Saves all images that are shown large as one file.
#[component]
fn SaveSheet() -> impl IntoView {
    let app = app();
    let whole = move || {
        let grid = app.geometry().grid;
        let images = app.images_of(Ranking::shown);
        images.len() > 1
            && images.iter().all(|(_, image)| {
                image.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.rows == grid))
            })
    };
    view! {
        <Show when=whole>
            <button type="button" class="quiet" data-testid="save-sheet" on:click=move |_| actions::save_sheet(app)>
                "Save sheet"
            </button>
        </Show>
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
fn seed(app: App, prompt: &Prompt) -> u64 {
    let sample = app.ranking.with(|ranking| match *ranking.shown() {
        [only] => only,
        _ => 0,
    });
    prompt.seed_of(sample).0
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
        Some(copying) => say_copied(copied, copying),
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
