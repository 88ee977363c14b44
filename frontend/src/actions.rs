//! What a person does on the page, as inputs of the state machines.

use dalle_shared::{DeviceChoice, ImageToken, check_prefix};
use leptos::prelude::*;

use crate::controller::Controller;
use crate::form::{Inputs, Invalid};
use crate::generation::Input;
use crate::session::Prompt;
use crate::{browser, decoder};

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
    let prefix = form.prefix.kept(model.geometry().grid);
    let typed = Inputs { prefix, ..untrack(|| form.inputs()) };
    let seed = if form.seed_locked.get_untracked() {
        typed.seed.clone()
    } else {
        browser::random_seed().to_string()
    };
    let request = Inputs { seed: seed.clone(), ..typed.clone() }.request(&model)?;
    form.seed.set(seed);
    let prompt = Prompt { caption: typed.caption, request };
    browser::set_fragment(&prompt.link(&[]).to_fragment());
    app.notice.set(None);
    controller.generation(Input::Begin(prompt));
    Ok(())
}

/// Samples everything after the first `rows` rows of an image again: the rest as the form says, with another seed.
///
/// # Errors
/// The input that must change first.
pub fn regenerate(controller: Controller, tokens: Vec<ImageToken>, rows: usize) -> Result<(), Invalid> {
    controller.set_prefix(tokens, rows);
    controller.app.form.seed.set(browser::random_seed().to_string());
    generate(controller)
}

/// Takes the prefix of a link. Returns whether it fits the model; if not, images are sampled from scratch.
pub fn restore_prefix(controller: Controller, tokens: Vec<ImageToken>) -> bool {
    let geometry = controller.app.geometry();
    let fits = tokens.len().is_multiple_of(geometry.grid) && check_prefix(&tokens, &geometry).is_ok();
    let rows = if fits { tokens.len() / geometry.grid } else { 0 };
    controller.set_prefix(if fits { tokens } else { Vec::new() }, rows);
    fits
}

/// Removes the prefix, and an upload that is being encoded.
pub fn remove_prefix(controller: Controller) {
    controller.set_prefix(Vec::new(), 0);
}

/// Starts the decoder on the device that the address asks for (`?decoder=`).
pub fn start_decoder(controller: Controller) {
    let choice = match browser::query("decoder").as_deref() {
        Some("cpu") => DeviceChoice::Cpu,
        Some("webgpu") => DeviceChoice::Webgpu,
        _ => DeviceChoice::Auto,
    };
    controller.decoder(decoder::Input::Start(choice));
}
