//! Whether the model learned the caption, and the list of all names that it learned.

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
        app.vocabulary.with(|vocabulary| vocabulary.as_ref().and_then(|vocabulary| vocabulary.find(&caption)))
    });
    let said = text(move || match verdict.get() {
        None => "This small model draws what it learned. Other words give surprises.".to_owned(),
        Some(Verdict::Learned) => "The model learned these words.".to_owned(),
        Some(Verdict::InOtherWords(_)) => "Learned in these words:".to_owned(),
        Some(Verdict::Recombined(nearest)) => {
            with_nearest("The model knows these words, but not together: expect surprises.", &nearest)
        }
        Some(Verdict::Unknown { words, nearest }) => with_nearest(&never_seen(&words), &nearest),
    });
    let offers = move || match verdict.get() {
        Some(Verdict::InOtherWords(caption)) => vec![caption],
        Some(Verdict::Recombined(nearest) | Verdict::Unknown { nearest, .. }) => nearest,
        _ => Vec::new(),
    };
    view! {
        <Show when=move || app.vocabulary.with(Option::is_some)>
            <p class="learned" class:surprise=move || matches!(verdict.get(), Some(Verdict::Recombined(_) | Verdict::Unknown { .. }))>
                <span role="status" data-testid="learned">{said}</span>
                <For each=offers key=|caption| caption.clone() let(caption)><Choose caption/></For>
            </p>
        </Show>
    }
}

fn with_nearest(said: &str, nearest: &[String]) -> String {
    if nearest.is_empty() { said.to_owned() } else { format!("{said} Nearest:") }
}

/// Words that a message quotes.
const QUOTED: usize = 3;
/// Letters of a word that it quotes.
const LETTERS: usize = 24;

fn shortened(word: &str) -> String {
    match word.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

fn never_seen(words: &[String]) -> String {
    let quoted: Vec<String> =
        words.iter().take(QUOTED).map(|word| format!("“{}”", shortened(word))).collect();
    if words.len() > QUOTED {
        let more = words.len() - QUOTED;
        return format!(
            "The model has never seen {} and {more} more of these words: expect surprises.",
            quoted.join(", ")
        );
    }
    let list = match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    format!("The model has never seen {list}: expect surprises.")
}

/// The list of all that it learned, folded away.
#[component]
pub fn AllCaptions() -> impl IntoView {
    let app = app();
    let count =
        move || app.vocabulary.with(|vocabulary| vocabulary.as_ref().map_or(0, |all| all.names().count()));
    view! {
        <Show when=move || app.vocabulary.with(Option::is_some)>
            <details class="settings all-captions">
                <summary data-testid="all-captions">{text(move || format!("All {} names that it learned", format::count(count() as u64)))}</summary>
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
            <label class="unseen" for="caption-search">"Search the names"</label>
            <input
                id="caption-search"
                data-testid="caption-search"
                type="search"
                placeholder="Search"
                autocomplete="off"
                prop:value=words
                on:input:target=move |event| words.set(event.target().value())
            />
            <div class="caption-list" role="group" aria-label="Names">
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
