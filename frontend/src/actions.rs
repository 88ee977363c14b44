//! What a person does on the page, as inputs of the state machines.

use dalle_shared::{DeviceChoice, ImageToken, check_prefix};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::controller::Controller;
use crate::form::{Invalid, SeedUse};
use crate::generation::GenerationInput;
use crate::lessons::{self, LESSONS, Start};
use crate::link::Link;
use crate::phase::Phase;
use crate::place::Place;
use crate::session::Prompt;
use crate::state::App;
use crate::subject::{Subject, least_sure};
use crate::ticket::Ticket;
use crate::{browser, decoder, storage};

/// Asks for the images that the form describes.
///
/// # Errors
/// The input that must change first.
pub fn generate(controller: Controller) -> Result<(), Invalid> {
    let app = controller.app;
    let Some(model) = app.model.get_untracked() else { return Ok(()) };
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
    let prompt = Prompt { caption: inputs.caption, request };
    set_address(&prompt.link(&[]));
    app.notice.set(None);
    controller.generation(GenerationInput::Begin(prompt));
    Ok(())
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

/// Puts the link to what is on display into the address and copies it. None where the browser has no clipboard (outside secure
/// contexts), or nothing is on display.
pub fn copy_link(app: App) -> Option<JsFuture> {
    set_address(&app.link()?);
    browser::copy_address()
}

fn set_address(link: &Link) {
    browser::set_fragment(&link.to_fragment());
    storage::store_link(link);
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
        controller.ask(app.explain.open(Subject::new(&prompt.request, index, tokens), geometry, here));
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
                if generate(controller).is_ok() {
                    app.explain.lesson.set(Some(index));
                    // The address stays the lesson's, so that Back leads to it.
                    browser::set_fragment(&lessons::fragment(index));
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
