//! A picture to start from: chosen, dropped or pasted, and how much of it stays.

use leptos::ev::{DragEvent, dragleave, dragover, drop, paste};
use leptos::html::{Button, Canvas, Details, Input};
use leptos::prelude::*;
use web_sys::FileList;

use dalle_shared::files::ENCODER;

use super::rows::Rows;
use crate::canvas::draw_pixels;
use crate::controller::{Controller, controller};
use crate::decoder::Upload;
use crate::state::app;
use crate::{actions, format};

#[component]
pub fn StartFrom() -> impl IntoView {
    let (app, controller) = (app(), controller());
    let start = app.form.prefix;
    let can_read = Memo::new(move |_| {
        app.model.with(|model| model.as_ref().is_some_and(|model| model.manifest.file(ENCODER).is_some()))
    });
    let begins = Memo::new(move |_| start.tokens.with(|tokens| !tokens.is_empty()));
    let reads = Memo::new(move |_| start.upload.with(Option::is_some));
    let dragged = RwSignal::new(false);
    let details = NodeRef::<Details>::new();
    let input = NodeRef::<Input>::new();
    let choose = NodeRef::<Button>::new();

    // What lies in it is not to be overlooked.
    Effect::new(move |_| {
        if let Some(details) = details.get()
            && (begins.get() || reads.get() || dragged.get())
        {
            details.set_open(true);
        }
    });
    window_event_listener(paste, move |event| {
        let files = event.clipboard_data().and_then(|data| data.files());
        if can_read.get_untracked() && take(controller, files) {
            event.prevent_default();
        }
    });
    window_event_listener(dragover, move |event| {
        if can_read.get_untracked() && brings_files(&event) {
            event.prevent_default();
            dragged.set(true);
        }
    });
    window_event_listener(dragleave, move |event| {
        // Leaving one part of the page for another is not leaving the page.
        if event.related_target().is_none() {
            dragged.set(false);
        }
    });
    window_event_listener(drop, move |event| {
        dragged.set(false);
        if can_read.get_untracked() && brings_files(&event) {
            event.prevent_default();
            take(controller, event.data_transfer().and_then(|data| data.files()));
        }
    });
    let remove = move |_| {
        actions::remove_prefix(controller);
        // The button that was pressed goes away.
        if let Some(choose) = choose.get_untracked() {
            let _ = choose.focus();
        }
    };
    let status = move || match start.upload.get() {
        None => String::new(),
        Some(Upload::Encoding) => "Turning the picture into tokens…".to_owned(),
        Some(Upload::Fetching { loaded, total: Some(total) }) => {
            format!("Fetching the encoder: {} of {}", format::bytes(loaded), format::bytes(total))
        }
        Some(Upload::Fetching { loaded, total: None }) => {
            format!("Fetching the encoder: {}", format::bytes(loaded))
        }
    };
    // What a screen reader is told: not each byte.
    let said = Memo::new(move |_| match start.upload.get() {
        Some(Upload::Encoding) => "Turning the picture into tokens",
        Some(Upload::Fetching { .. }) => "Fetching the encoder",
        None if begins.get() => "Pictures begin with the rows kept",
        None => "",
    });
    view! {
        <Show when=move || can_read.get() || begins.get()>
            <details class="settings start" class:dragged=dragged node_ref=details data-testid="start">
                <summary data-testid="start-summary">"Start from a picture"</summary>
                <div class="start-body">
                    <Show when=move || begins.get()>
                        <Kept/>
                    </Show>
                    <div class="start-choose">
                        <Show when=move || can_read.get()>
                            <button
                                type="button"
                                class="secondary"
                                node_ref=choose
                                data-testid="start-choose"
                                aria-describedby="start-privacy"
                                on:click=move |_| {
                                    if let Some(input) = input.get_untracked() {
                                        input.click();
                                    }
                                }
                            >
                                {move || if begins.get() { "Choose another" } else { "Choose a picture" }}
                            </button>
                            <input
                                node_ref=input
                                hidden
                                type="file"
                                accept="image/*"
                                data-testid="start-file"
                                on:change:target=move |event| {
                                    take(controller, event.target().files());
                                    // The same file can be chosen again.
                                    event.target().set_value("");
                                }
                            />
                        </Show>
                        <Show when=move || begins.get() || reads.get()>
                            <button type="button" class="quiet" data-testid="start-remove" on:click=remove>
                                "Remove"
                            </button>
                        </Show>
                    </div>
                    <p class="hint start-status" data-testid="start-status">{status}</p>
                    <p class="unseen" role="status">{said}</p>
                    <p class="hint" id="start-privacy">
                        "Or drop or paste one anywhere here. It stays on your machine: your browser turns it into tokens, and only
                        those of the rows you keep are sent."
                    </p>
                </div>
            </details>
        </Show>
    }
}

/// The beginning as the decoder draws it, and how many rows of it stay.
#[component]
fn Kept() -> impl IntoView {
    let app = app();
    let start = app.form.prefix;
    let geometry = Memo::new(move |_| app.geometry());
    let grid = move || geometry.get().grid;
    let size = move || geometry.get().image_size;
    let canvas = NodeRef::<Canvas>::new();
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            start.shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), grid()));
        }
    });
    let share = move || format!("{}%", start.rows.get() * 100 / grid());
    view! {
        <div class="kept">
            <div class="plate keeping" style:--kept=share>
                <canvas
                    node_ref=canvas
                    width=size
                    height=size
                    role="img"
                    data-testid="start-picture"
                    aria-label="The picture to start from, as its tokens show it"
                ></canvas>
            </div>
            <div class="field">
                <Rows
                    id="start-rows"
                    rows=start.rows
                    most=Signal::derive(move || start.most_rows(grid()))
                    grid=Signal::derive(grid)
                />
                <p class="hint">"Each picture begins with these rows. The rest is drawn to the caption."</p>
            </div>
        </div>
    }
}

/// Whether files are being dragged, and not text.
fn brings_files(event: &DragEvent) -> bool {
    event.data_transfer().is_some_and(|data| data.types().iter().any(|kind| kind == "Files"))
}

/// Reads the first of the files, if there is one.
fn take(controller: Controller, files: Option<FileList>) -> bool {
    let file = files.and_then(|files| files.get(0));
    let taken = file.is_some();
    if let Some(file) = file {
        controller.upload(file);
    }
    taken
}
