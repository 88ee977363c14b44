//! Ways of an image file to the page that are open everywhere on it: dropped or pasted.

use leptos::ev::{DragEvent, dragleave, dragover, drop, paste};
use leptos::prelude::*;
use web_sys::FileList;

use crate::actions;
use crate::controller::Controller;

/// Takes image files that are dropped or pasted anywhere on the page: those that were saved here are restored, others are images to
/// start from where the model `can_encode`. `dragged` tells that one is held over the page.
pub fn take_images(controller: Controller, can_encode: Memo<bool>, dragged: RwSignal<bool>) {
    let open = move |files: Option<FileList>| {
        let file = files.and_then(|files| files.get(0));
        let taken = file.is_some() && controller.app.model.with_untracked(Option::is_some);
        if let Some(file) = file.filter(|_| taken) {
            actions::open_file(controller, file, can_encode.get_untracked());
        }
        taken
    };
    window_event_listener(paste, move |event| {
        let files = event.clipboard_data().and_then(|data| data.files());
        if open(files) {
            event.prevent_default();
        }
    });
    window_event_listener(dragover, move |event| {
        if brings_files(&event) {
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
        if brings_files(&event) {
            event.prevent_default();
            open(event.data_transfer().and_then(|data| data.files()));
        }
    });
}

/// Whether files are being dragged, and not text.
fn brings_files(event: &DragEvent) -> bool {
    event.data_transfer().is_some_and(|data| data.types().iter().any(|kind| kind == "Files"))
}
