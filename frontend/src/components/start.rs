//! The panel for an image to start from.

use leptos::html::{Button, Details};
use leptos::prelude::*;

use dalle_shared::files::ENCODER;

use super::choose_file::ChooseFile;
use super::prefix::KeptRows;
use super::text::text;
use super::upload::take_images;
use crate::controller::controller;
use crate::decoder::Upload;
use crate::{actions, format};

#[component]
pub fn StartFrom() -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    let prefix = app.form.prefix;
    let can_encode = Memo::new(move |_| {
        app.model.with(|model| model.as_ref().is_some_and(|model| model.manifest.file(ENCODER).is_some()))
    });
    let has_prefix = Memo::new(move |_| prefix.tokens.with(|tokens| !tokens.is_empty()));
    let encodes = Memo::new(move |_| prefix.upload.with(Option::is_some));
    let dragged = RwSignal::new(false);
    let details = NodeRef::<Details>::new();
    let choose = NodeRef::<Button>::new();
    take_images(controller, can_encode, dragged);
    // What is in the panel must not be overlooked.
    Effect::new(move |_| {
        if let Some(details) = details.get()
            && (has_prefix.get() || encodes.get() || dragged.get())
        {
            details.set_open(true);
        }
    });
    let remove = move |_| {
        actions::remove_prefix(controller);
        // The button that was pressed goes away.
        if let Some(choose) = choose.get_untracked() {
            let _ = choose.focus();
        }
    };
    view! {
        <Show when=move || can_encode.get() || has_prefix.get()>
            <details class="settings start" class:dragged=dragged node_ref=details data-testid="start">
                <summary id="start-summary" data-testid="start-summary">"Start from an image"</summary>
                <div class="start-body">
                    <Show when=move || has_prefix.get()>
                        <KeptRows/>
                    </Show>
                    <div class="start-choose">
                        <Show when=move || can_encode.get()>
                            <ChooseFile
                                name="start"
                                class="secondary"
                                accept="image/*"
                                described_by="start-privacy"
                                button=choose
                                label=text(move || if has_prefix.get() { "Choose another" } else { "Choose an image" }.to_owned())
                                take=move |file| controller.upload(file)
                            />
                        </Show>
                        <Show when=move || has_prefix.get() || encodes.get()>
                            <button type="button" class="quiet" data-testid="start-remove" on:click=remove>
                                "Remove"
                            </button>
                        </Show>
                    </div>
                    <p class="hint start-status" data-testid="start-status">{text(move || progress(prefix.upload.get()))}</p>
                    <p class="unseen" role="status">
                        {text(move || match prefix.upload.get() {
                            None if has_prefix.get() => "Images begin with the rows kept".to_owned(),
                            upload => announcement(upload).to_owned(),
                        })}
                    </p>
                    <p class="hint" id="start-privacy">
                        "Or drop or paste one anywhere here. It stays on your machine: your browser turns it into tokens, and only
                        those of the rows that you keep are sent."
                    </p>
                </div>
            </details>
        </Show>
    }
}

/// How far the upload is.
pub fn progress(upload: Option<Upload>) -> String {
    match upload {
        None => String::new(),
        Some(Upload::Encoding) => "Encoding the image…".to_owned(),
        Some(Upload::Fetching { loaded, total: Some(total) }) => {
            format!("Downloading the encoder: {} of {}", format::bytes(loaded), format::bytes(total))
        }
        Some(Upload::Fetching { loaded, total: None }) => {
            format!("Downloading the encoder: {}", format::bytes(loaded))
        }
    }
}

/// What a screen reader says: not each byte.
pub fn announcement(upload: Option<Upload>) -> &'static str {
    match upload {
        Some(Upload::Encoding) => "Encoding the image",
        Some(Upload::Fetching { .. }) => "Downloading the encoder",
        None => "",
    }
}
