//! What a person does on the page, as inputs of the state machines.

use dalle_shared::{DeviceChoice, ImageToken, check_prefix};
use leptos::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::controller::Controller;
use crate::form::{Invalid, SeedUse};
use crate::generation::GenerationInput;
use crate::link::Link;
use crate::place::Place;
use crate::session::Prompt;
use crate::state::App;
use crate::{browser, decoder, storage};

/// Asks for the images that the form describes.
///
/// # Errors
/// The input that must change first.
pub fn generate(controller: Controller) -> Result<(), Invalid> {
    let app = controller.app;
    let Some(model) = app.model.get_untracked() else { return Ok(()) };
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
