//! What a person does on the page, as inputs of the state machines.

use std::sync::Arc;

use dalle_shared::{DeviceChoice, ImageToken, PngError, check_prefix, read_metadata};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::File;

use crate::controller::Controller;
use crate::decoder::Study;
use crate::form::{Inputs, Invalid, SeedUse};
use crate::generation::GenerationInput;
use crate::history::Entry;
use crate::lessons::{self, LESSONS, Start};
use crate::link::Link;
use crate::phase::Phase;
use crate::place::Place;
use crate::ranking::Ranking;
use crate::session::{Prompt, Session};
use crate::sheet::{self, Item};
use crate::state::{App, Image};
use crate::subject::{Subject, least_sure};
use crate::ticket::Ticket;
use crate::{browser, decoder, format, storage};

/// Asks for the images that the form describes. The address leads to them.
///
/// # Errors
/// The input that must change first.
pub fn generate(controller: Controller) -> Result<(), Invalid> {
    let link = ask(controller)?;
    if let Some(link) = link {
        set_address(&link, true);
    }
    Ok(())
}

/// [`generate`], without the address. None if the model is not known yet.
fn ask(controller: Controller) -> Result<Option<Link>, Invalid> {
    let app = controller.app;
    let Some(model) = app.model.get_untracked() else { return Ok(None) };
    app.explain.lesson.set(None);
    let form = app.form;
    if form.prefix.upload.with_untracked(Option::is_some) {
        let message = "The image to start from is not encoded yet. Wait a moment, or remove it.".to_owned();
        return Err(Invalid { id: "start-summary", message });
    }
    let mut inputs = untrack(|| form.inputs());
    if form.seed_use.get_untracked() == SeedUse::Never {
        inputs.seed = browser::random_seed().to_string();
    }
    if untrack(|| form.prefix.is_for(&inputs.caption)) {
        inputs.prefix = form.prefix.kept(model.geometry().grid);
    }
    let request = inputs.request(&model, app.place.get_untracked())?;
    if inputs.prefix.is_empty() {
        remove_prefix(controller);
    }
    form.seed.set(inputs.seed);
    form.seed_use.update(|seed_use| *seed_use = seed_use.after_use());
    let prompt = Prompt { caption: inputs.caption, request, seeds: Vec::new() };
    let link = prompt.link();
    app.notice.set(None);
    controller.generation(GenerationInput::Begin(prompt));
    Ok(Some(link))
}

/// Generates everything after the first `rows` rows of an image again: the rest as the form says, with another seed.
///
/// # Errors
/// The input that must change first.
pub fn regenerate(controller: Controller, tokens: Vec<ImageToken>, rows: usize) -> Result<(), Invalid> {
    let form = controller.app.form;
    controller.set_prefix(tokens, rows, Some(form.caption.get_untracked()));
    form.seed.set(browser::random_seed().to_string());
    form.seed_use.update(|seed_use| *seed_use = seed_use.or_next());
    generate(controller)
}

/// Takes the prefix of a link. Returns whether it is whole and fits the model; if not, images are generated from scratch.
pub fn restore_prefix(controller: Controller, link: &Link) -> bool {
    let geometry = controller.app.geometry();
    let fits = |tokens: &Vec<ImageToken>| {
        tokens.len().is_multiple_of(geometry.grid) && check_prefix(tokens, &geometry).is_ok()
    };
    let prefix = link.prefix.clone().filter(fits);
    let whole = prefix.is_some();
    let tokens = prefix.unwrap_or_default();
    let rows = tokens.len() / geometry.grid;
    controller.set_prefix(tokens, rows, Some(link.caption.clone()));
    whole
}

/// Copies the link to what is on display, which is in the address. None where the browser has no clipboard (outside secure contexts),
/// or nothing is on display.
pub fn copy_link(app: App) -> Option<JsFuture> {
    set_address(&untrack(|| app.link())?, false);
    browser::copy_address()
}

/// Puts the link to what is on display into the address, unless that leads to a lesson.
pub fn update_address(app: App) {
    if lessons::of_fragment(&browser::fragment()).is_none()
        && let Some(link) = untrack(|| app.link())
    {
        set_address(&link, false);
    }
}

/// Puts a link into the address: in place of what is there, or as a new entry of the browser's history, to which Back leads.
fn set_address(link: &Link, new_entry: bool) {
    let (now, fragment) = (browser::fragment(), link.to_fragment());
    if now.trim_start_matches('#') != fragment {
        // Back from the first images leads to the site before, not to an empty page.
        browser::set_fragment(&fragment, new_entry && !now.is_empty());
    }
    storage::store_link(link);
}

/// Shows the images that a link carries, if they are of the page's model. Returns whether they are.
pub fn open_images(controller: Controller, link: &Link) -> bool {
    let app = controller.app;
    if let Some(entry) = app.history.find(link) {
        return show(controller, entry.saved.session.clone());
    }
    let fits = app.model.with_untracked(|model| {
        model.as_ref().is_some_and(|model| {
            let geometry = model.geometry();
            let fits = |tokens: &Vec<ImageToken>| {
                tokens.len() == geometry.image_length() && check_prefix(tokens, geometry).is_ok()
            };
            link.model == model.manifest.hash && link.tokens.iter().flatten().all(fits)
        })
    });
    let session = Session::of_link(link, browser::now()).filter(|_| fits);
    session.is_some_and(|session| show(controller, session))
}

/// Shows an entry of the history.
pub fn open_entry(controller: Controller, entry: &Entry) {
    let session = &entry.saved.session;
    if let Some(link) = session.link_to_shown() {
        set_address(&link, true);
    }
    show(controller, session.clone());
    browser::scroll_to_result();
}

/// Shows a finished generation, and fills the form with what it was asked for. Returns whether the page's model can.
fn show(controller: Controller, session: Session) -> bool {
    let app = controller.app;
    let (Some(model), Some(link)) = (app.model.get_untracked(), Link::from_fragment(&session.link)) else {
        return false;
    };
    let Ok(prompt) = Inputs::prompt_of(&link, &model) else { return false };
    let carried = session.link_to_shown().filter(|_| session.is_opened());
    app.form.restore(&carried.unwrap_or(link));
    // The seed has been used.
    app.form.seed_use.set(SeedUse::Never);
    remove_prefix(controller);
    app.explain.lesson.set(None);
    controller.generation(GenerationInput::Restore(prompt, session));
    true
}

/// Saves the images that are shown large as one file, with which they can be restored.
pub fn save_sheet(app: App) {
    let images = untrack(|| app.images_of(Ranking::shown));
    let (Some(prompt), Some(link)) = (app.displayed.get_untracked(), untrack(|| app.link())) else { return };
    let item = |(index, image): &(usize, Image)| {
        let shown = image.shown.get_untracked()?;
        let note = format!("seed {}", prompt.seed_of(*index).0);
        Some(Item { rgba: shown.rgba.clone(), caption: prompt.caption.clone(), note })
    };
    let Some(items) = images.iter().map(item).collect::<Option<Vec<_>>>() else { return };
    let metadata =
        app.model.with_untracked(|model| model.as_ref().map(|model| link.metadata(&model.manifest.name)));
    if let Some(bytes) = sheet::png(&items, metadata.as_ref()) {
        browser::save(&bytes, "image/png", &format::file_name(&prompt.caption, link.seed, "sheet.png"));
    }
}

/// Saves entries of the history as one file, once all of them are decoded. Returns whether they are.
pub fn save_entries(entries: &[Arc<Entry>]) -> bool {
    let item = |entry: &Arc<Entry>| {
        let shown = entry.shown.get()?;
        let note = format!("seed {}", entry.link.seed_of(entry.first()).0);
        Some(Item { rgba: shown.rgba.clone(), caption: entry.link.caption.clone(), note })
    };
    let Some(items) = entries.iter().map(item).collect::<Option<Vec<_>>>() else { return false };
    if let Some(bytes) = sheet::png(&items, None) {
        browser::save(&bytes, "image/png", "contact-sheet.png");
    }
    true
}

/// Decodes the image of an entry of the history, if that is still to be done.
pub fn decode_entry(controller: Controller, entry: &Entry) {
    if entry.shown.with_untracked(Option::is_none) {
        let study = Study::Kept(entry.key());
        controller.decoder(decoder::DecoderInput::Study(study, entry.tokens()));
    }
}

/// Opens a file: images that its metadata describe, else an image to explain beside the one that is, or to start from.
pub fn open_file(controller: Controller, file: File, can_encode: bool) {
    spawn_local(async move {
        let app = controller.app;
        let metadata = match browser::read(&file).await {
            Ok(bytes) => read_metadata(&bytes),
            Err(_) => Ok(None),
        };
        let notice = match metadata {
            Ok(Some(metadata)) => {
                let made_with = metadata.model.name.clone();
                match Link::of_metadata(metadata) {
                    Some(link) => {
                        // Before it is shown, so that Back leads to what is on display now.
                        let before = browser::fragment();
                        set_address(&link, true);
                        if open_images(controller, &link) {
                            return browser::scroll_to_result();
                        }
                        browser::set_fragment(before.trim_start_matches('#'), false);
                        Some(format!(
                            "This file was generated with another model, {made_with}: it cannot be restored here."
                        ))
                    }
                    None => None,
                }
            }
            Err(PngError::Damaged(how)) => Some(format!("The metadata of this file are damaged: {how}.")),
            Ok(None) | Err(_) => None,
        };
        match (notice, can_encode) {
            (Some(notice), _) => app.notice.set(Some(notice)),
            (None, true) if app.explain.subject.with_untracked(Option::is_some) => {
                controller.upload_to_explain(file);
            }
            (None, true) => controller.upload(file),
            (None, false) => {
                let text = "This file does not say how it was generated. Open a PNG that was saved here.";
                app.notice.set(Some(text.to_owned()));
            }
        }
    });
}

/// Deletes an entry of the history, from the page too if it is on display.
pub fn delete(controller: Controller, key: u64) {
    let history = controller.app.history;
    let displayed = history.current.get_untracked() == Some(key);
    history.delete(key);
    if displayed {
        clear(controller);
    }
}

/// Deletes the whole history.
pub fn delete_all(controller: Controller) {
    let history = controller.app.history;
    let displayed = history.current.get_untracked().is_some();
    history.delete_all();
    if displayed {
        clear(controller);
    }
}

fn clear(controller: Controller) {
    controller.generation(GenerationInput::Clear);
    browser::set_fragment("", false);
}

/// Removes the prefix, and an upload that is being encoded.
pub fn remove_prefix(controller: Controller) {
    controller.set_prefix(Vec::new(), 0, None);
}

/// Starts the decoder on the device that the address asks for (`?decoder=`).
pub fn start_decoder(controller: Controller) {
    let choice = match browser::query("decoder").as_deref() {
        Some("cpu") => DeviceChoice::Cpu,
        Some("webgpu") => DeviceChoice::Webgpu,
        _ => DeviceChoice::Auto,
    };
    controller.decoder(decoder::DecoderInput::Start(choice));
}

/// Samples the next images there.
pub fn choose_place(controller: Controller, place: Place) {
    controller.app.place.set(place);
    storage::store_place(place);
}

/// Explains the image with this index of those on display, if it is complete.
pub fn explain(controller: Controller, index: usize) {
    let app = controller.app;
    let tokens =
        app.images.with_untracked(|images| images.get(index).map(|image| image.tokens.get_untracked()));
    let (Some(tokens), Some(prompt)) = (tokens, app.displayed.get_untracked()) else { return };
    let geometry = app.geometry();
    if tokens.len() == geometry.image_length() {
        let here = app.model.with_untracked(|model| model.as_ref().is_some_and(|model| model.runs_here()));
        controller.ask(app.explain.open(Subject::new(&prompt, index, tokens), geometry, here));
    }
}

/// Goes so many tokens forwards on the timeline, or backwards.
pub fn step(controller: Controller, by: isize) {
    let explain = controller.app.explain;
    controller.ask(explain.go(explain.position.get_untracked().saturating_add_signed(by)));
}

/// Plays the timeline, from its beginning if it is at its end; or pauses it.
pub fn play_or_pause(controller: Controller) {
    let explain = controller.app.explain;
    if explain.playing.get_untracked().is_some() {
        return explain.playing.set(None);
    }
    if explain.is_at_end() {
        controller.ask(explain.go(0));
    }
    let run = Ticket::issue().number();
    explain.playing.set(Some(run));
    spawn_local(async move {
        while !explain.is_at_end() {
            TimeoutFuture::new(1000 / explain.speed.get_untracked()).await;
            if explain.playing.get_untracked() != Some(run) {
                return;
            }
            step(controller, 1);
        }
        explain.playing.set(None);
    });
}

/// Shows a lesson about the image on display, or about an example if there is none.
pub fn lesson(controller: Controller, index: usize) {
    let app = controller.app;
    app.explain.lesson.set(Some(index));
    if app.explain.subject.with_untracked(Option::is_some) {
        return begin_lesson(controller, index);
    }
    match app.phase.get_untracked() {
        Phase::Finished => explain_first(controller),
        Phase::Idle | Phase::Cancelled | Phase::Failed => {
            let example =
                app.model.with_untracked(|model| model.as_ref()?.manifest.examples.first().cloned());
            if let Some(example) = example {
                app.form.caption.set(example);
                app.form.samples.set(1);
                // The address stays the lesson's, so that Back leads to it.
                if ask(controller).is_ok() {
                    app.explain.lesson.set(Some(index));
                }
            }
        }
        // It is shown when the images are complete.
        Phase::Loading | Phase::Queued | Phase::Running | Phase::Decoding => {}
    }
}

/// Shows the lesson that was waiting until the images are complete.
pub fn finished(controller: Controller) {
    let explain = controller.app.explain;
    if explain.lesson.get_untracked().is_some() && explain.subject.with_untracked(Option::is_none) {
        explain_first(controller);
    }
}

fn explain_first(controller: Controller) {
    let app = controller.app;
    let first = app.ranking.with_untracked(|ranking| ranking.shown().first().copied());
    let lesson = app.explain.lesson.get_untracked();
    if let Some(first) = first {
        explain(controller, first);
        if let Some(index) = lesson {
            begin_lesson(controller, index);
        }
    }
}

fn begin_lesson(controller: Controller, index: usize) {
    let explain = controller.app.explain;
    let lesson = LESSONS[index];
    explain.lesson.set(Some(index));
    explain.playing.set(None);
    explain.lens.set(lesson.lens);
    explain.colouring.set(lesson.colouring);
    let position = match lesson.start {
        Start::First => 0,
        Start::Last => usize::MAX,
        Start::LeastSure => {
            let unsure = explain.steps.with_untracked(|steps| least_sure(steps));
            // In the middle, while the prior has not read the image again.
            unsure.unwrap_or_else(|| untrack(|| explain.length()) / 2)
        }
    };
    controller.ask(explain.go(position));
}
