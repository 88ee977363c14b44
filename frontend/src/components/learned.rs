//! Whether the model learned the caption, and the list of all that it learned.

use leptos::prelude::*;

use super::text::text;
use crate::controller::app;
use crate::format;
use crate::vocabulary::Verdict;

/// Captions that the list shows at once.
const LISTED: usize = 60;

#[component]
pub fn Learned() -> impl IntoView {
    let app = app();
    let verdict = Memo::new(move |_| {
        let caption = app.form.caption.get();
        let typed = !caption.trim().is_empty();
        app.vocabulary.with(|vocabulary| {
            vocabulary.as_ref().filter(|_| typed).map(|vocabulary| vocabulary.find(&caption))
        })
    });
    let said = text(move || match verdict.get() {
        None => "This small model draws what it learned. Other words give surprises.".to_owned(),
        Some(Verdict::Learned) => "The model learned this caption.".to_owned(),
        Some(Verdict::InOtherWords(_)) => "Not learned in these words. Learned:".to_owned(),
        Some(Verdict::NotLearned(nearest)) if nearest.is_empty() => {
            "Not learned: expect surprises.".to_owned()
        }
        Some(Verdict::NotLearned(_)) => "Not learned: expect surprises. Nearest:".to_owned(),
    });
    let offers = move || match verdict.get() {
        Some(Verdict::InOtherWords(caption)) => vec![caption],
        Some(Verdict::NotLearned(nearest)) => nearest,
        _ => Vec::new(),
    };
    view! {
        <Show when=move || app.vocabulary.with(Option::is_some)>
            <p class="learned" class:surprise=move || matches!(verdict.get(), Some(Verdict::NotLearned(_)))>
                <span role="status" data-testid="learned">{said}</span>
                <For each=offers key=|caption| caption.clone() let(caption)><Choose caption/></For>
            </p>
        </Show>
    }
}

/// The list of all that it learned, folded away.
#[component]
pub fn AllCaptions() -> impl IntoView {
    let app = app();
    let count =
        move || app.vocabulary.with(|vocabulary| vocabulary.as_ref().map_or(0, |all| all.captions().count()));
    view! {
        <Show when=move || app.vocabulary.with(Option::is_some)>
            <details class="settings all-captions">
                <summary data-testid="all-captions">{text(move || format!("All {} captions", format::count(count() as u64)))}</summary>
                <All/>
            </details>
        </Show>
    }
}

/// A caption that a press puts into the box.
#[component]
fn Choose(caption: String) -> impl IntoView {
    let app = app();
    let label = caption.clone();
    view! {
        <button type="button" class="example" on:click=move |_| app.form.caption.set(caption.clone())>{label}</button>
    }
}

/// The list, with a search.
#[component]
fn All() -> impl IntoView {
    let app = app();
    let words = RwSignal::new(String::new());
    let found = Memo::new(move |_| {
        app.vocabulary.with(|vocabulary| {
            let found =
                vocabulary.as_ref().map(|vocabulary| vocabulary.search(&words.get())).unwrap_or_default();
            let more = found.len().saturating_sub(LISTED);
            (found.into_iter().take(LISTED).map(str::to_owned).collect::<Vec<_>>(), more)
        })
    });
    view! {
        <div class="all-captions-body">
            <label class="unseen" for="caption-search">"Search the captions"</label>
            <input
                id="caption-search"
                data-testid="caption-search"
                type="search"
                placeholder="Search"
                autocomplete="off"
                prop:value=words
                on:input:target=move |event| words.set(event.target().value())
            />
            <div class="caption-list" role="group" aria-label="Captions">
                <For each=move || found.get().0 key=|caption| caption.clone() let(caption)><Choose caption/></For>
            </div>
            <p class="hint" role="status">
                {text(move || match found.get() {
                    (_, 0) => String::new(),
                    (_, more) => format!("and {} more: type to search", format::count(more as u64)),
                })}
            </p>
        </div>
    }
}
