//! The images that this browser keeps: small, the newest first, below those on display.

use std::sync::Arc;

use leptos::html::Canvas;
use leptos::prelude::*;

use super::choose_file::ChooseFile;
use super::compare::Compare;
use super::text::{flag, text};
use crate::canvas::{draw_mosaic, draw_pixels};
use crate::controller::controller;
use crate::decoder::DecoderState;
use crate::history::{Entry, MOST};
use crate::{actions, browser, format};

/// Images that are shown at once, and how many more a press shows.
const PAGE: usize = 24;

#[component]
pub fn Kept() -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let history = app.history;
    let listed = Memo::new_with_compare(
        move |_| {
            app.model.with(|model| {
                model.as_ref().map_or((Vec::new(), 0), |model| history.listed(&model.manifest.hash))
            })
        },
        |_, _| true,
    );
    let any = move || history.entries.with(|entries| !entries.is_empty());
    let room = RwSignal::new(PAGE);
    let visible = move || {
        let (entries, _) = listed.get();
        entries.into_iter().take(room.get()).collect::<Vec<_>>()
    };
    let more = move || listed.with(|(entries, _)| entries.len().saturating_sub(room.get()));
    let title = text(move || {
        listed.with(|(entries, _)| format!("Your images: {}", format::count(entries.len() as u64)))
    });
    let note = text(move || {
        let others = listed.with(|(_, others)| *others);
        let other = match others {
            0 => String::new(),
            1 => " One more was made with another model.".to_owned(),
            _ => format!(" {others} more were made with other models."),
        };
        format!("Only in this browser: the newest {MOST}, and your favourites.{other}")
    });
    view! {
        <Show when=any>
            <section class="kept-images" aria-labelledby="kept-title" data-testid="history">
                <div class="kept-head">
                    <h2 id="kept-title">{title}</h2>
                    <Actions listed=Signal::derive(move || listed.get().0)/>
                </div>
                <Compare/>
                <ol class="kept-list">
                    <For each=visible key=|entry| entry.look() let(entry)><Tile entry/></For>
                </ol>
                <Show when=move || { more() > 0 }>
                    <button type="button" class="secondary small" on:click=move |_| room.update(|room| *room += PAGE)>
                        {text(move || format!("Show {} more", more().min(PAGE)))}
                    </button>
                </Show>
                <p class="hint">{note}</p>
            </section>
        </Show>
    }
}

/// What can be done with the list.
#[component]
fn Actions(listed: Signal<Vec<Arc<Entry>>>) -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let history = app.history;
    let asking = RwSignal::new(false);
    let sheet = RwSignal::new(None::<Vec<Arc<Entry>>>);
    Effect::new(move |_| {
        let failed = app.decoder.with(|decoder| matches!(decoder, DecoderState::Failed(_)));
        if sheet
            .with(|entries| entries.as_ref().is_some_and(|entries| failed || actions::save_entries(entries)))
        {
            sheet.set(None);
        }
    });
    let save_sheet = move |_| {
        let entries = match history.compared.get_untracked().filter(|compared| !compared.is_empty()) {
            Some(compared) => compared.iter().filter_map(|key| untrack(|| history.get(*key))).collect(),
            None => listed.get_untracked(),
        };
        entries.iter().for_each(|entry| actions::decode_entry(controller, entry));
        sheet.set(Some(entries));
    };
    let compares = move || history.compared.with(Option::is_some);
    let delete_all = move |_| {
        actions::delete_all(controller);
        browser::focus("result");
    };
    view! {
        <div class="kept-actions" role="group" aria-label="Your images">
            <button
                type="button"
                class="quiet"
                data-testid="only-favourites"
                aria-pressed=flag(move || history.only_favourites.get())
                on:click=move |_| history.only_favourites.update(|only| *only = !*only)
            >
                "Favourites"
            </button>
            <button
                type="button"
                class="quiet"
                data-testid="compare"
                aria-pressed=flag(compares)
                on:click=move |_| {
                    let compared = if untrack(compares) { None } else { Some(Vec::new()) };
                    history.compared.set(compared);
                }
            >
                "Compare"
            </button>
            <button
                type="button"
                class="quiet"
                data-testid="contact-sheet"
                aria-disabled=flag(move || sheet.with(Option::is_some) || listed.with(Vec::is_empty))
                on:click=save_sheet
            >
                {text(move || match sheet.with(Option::is_some) {
                    true => "Preparing…".to_owned(),
                    false => "Contact sheet".to_owned(),
                })}
            </button>
            <OpenFile/>
            <Show
                when=move || asking.get()
                fallback=move || view! {
                    <button type="button" class="quiet" data-testid="delete-all" on:click=move |_| {
                        asking.set(true);
                        browser::focus("delete-all-no");
                    }>
                        "Delete all"
                    </button>
                }
            >
                <span class="really" role="group" aria-label="Delete all images?">
                    <span>"Delete all images?"</span>
                    <button type="button" class="secondary small" data-testid="delete-all-yes" on:click=delete_all>"Delete"</button>
                    <button type="button" class="secondary small" id="delete-all-no" on:click=move |_| asking.set(false)>"Keep"</button>
                </span>
            </Show>
        </div>
    }
}

/// Opens a PNG that was saved here. It can be dropped or pasted too.
#[component]
pub fn OpenFile() -> impl IntoView {
    let controller = controller();
    view! {
        <ChooseFile
            name="open"
            class="quiet"
            accept="image/png"
            label="Open PNG"
            take=move |file| actions::open_file(controller, file, false)
        />
    }
}

/// One entry: a press shows it, or chooses it while entries are compared.
#[component]
fn Tile(entry: Arc<Entry>) -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let history = app.history;
    let key = entry.key();
    actions::decode_entry(controller, &entry);
    let shown = RwSignal::from(entry.shown.clone());
    let tokens = entry.tokens();
    let grid = move || app.geometry().grid;
    let (mosaic, pixels) = (NodeRef::<Canvas>::new(), NodeRef::<Canvas>::new());
    Effect::new(move |_| {
        if let Some(canvas) = mosaic.get() {
            draw_mosaic(&canvas, &tokens, grid());
        }
    });
    Effect::new(move |_| {
        if let Some(canvas) = pixels.get() {
            shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), grid()));
        }
    });
    let pressed =
        move || match history.compared.with(|compared| compared.as_ref().map(|all| all.contains(&key))) {
            Some(compared) => compared,
            None => history.current.get() == Some(key),
        };
    let caption = entry.link.caption.clone();
    let count = entry.link.samples;
    let favourite = entry.saved.favourite;
    let label = format!(
        "{caption}{}{}",
        if count > 1 { format!(", {count} images") } else { String::new() },
        if favourite { ", favourite" } else { "" },
    );
    let press = move |_| match history.compared.with_untracked(Option::is_some) {
        true => history.compare(key),
        false => actions::open_entry(controller, &entry),
    };
    let (side, size) =
        (text(move || grid().to_string()), text(move || app.geometry().image_size.to_string()));
    view! {
        <li>
            <button
                type="button"
                class="candidate kept-image"
                aria-pressed=flag(pressed)
                aria-label=label
                title=caption
                on:click=press
            >
                <span class="plate">
                    <canvas class="mosaic" node_ref=mosaic width=side height=side></canvas>
                    <canvas node_ref=pixels width=size height=size></canvas>
                    // The name of the button says both.
                    {favourite.then(|| view! { <span class="badge star" data-text="★"></span> })}
                    {(count > 1).then(|| view! { <span class="badge count" data-text=format!("×{count}")></span> })}
                </span>
                <span class="score" dir="auto">{caption.clone()}</span>
            </button>
        </li>
    }
}
