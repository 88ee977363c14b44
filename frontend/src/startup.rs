//! From an empty page to one that knows its server and model, and back to its generation after a reload.

use std::sync::Arc;

use dalle_shared::{Tokenizer, address, files};
use futures_util::future::join;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::api::Addresses;
use crate::controller::Controller;
use crate::form::{Inputs, SeedUse};
use crate::generation::GenerationInput;
use crate::link::Link;
use crate::model::Model;
use crate::model_card::{self, ModelCard};
use crate::place::Place;
use crate::problem::Problem;
use crate::session::{Prompt, Session};
use crate::vocabulary::Known;
use crate::{actions, api, browser, lessons, model_files, storage};

/// Restores the inputs, asks the server for its model and starts the decoder. Then shows what this tab showed before a reload, or
/// generates what the address asks for.
pub fn connect(controller: Controller) {
    let app = controller.app;
    let link = Link::from_fragment(&browser::fragment());
    if let Some(link) = &link {
        app.form.restore(link);
    }
    app.problem.set(None);
    spawn_local(async move {
        let (model, ()) = join(describe(controller), app.history.load()).await;
        match model {
            Ok(model) => opened(controller, &Arc::new(model), link),
            Err(problem) => app.problem.set(Some(problem)),
        }
    });
}

async fn describe(controller: Controller) -> Result<Model, Problem> {
    let Addresses { backend, model, source } = api::addresses().await?;
    controller.app.source.set(source);
    controller.app.backend.set(backend.clone().unwrap_or_default());
    let (manifest, base, served) = match (backend, model) {
        (Some(backend), model) => match (api::model(&backend).await, model) {
            (Ok(manifest), _) => (manifest, backend, true),
            // The server does not answer, but is not needed either.
            (Err(_), Some(model)) => (api::manifest(&model).await?, model, false),
            (Err(problem), None) => return Err(problem),
        },
        (None, model) => {
            let model = model.unwrap_or_default();
            (api::manifest(&model).await?, model, false)
        }
    };
    let listed = manifest.file(files::TOKENIZER);
    let file =
        listed.ok_or_else(|| Problem::Misunderstood("the manifest lists no tokenizer.json".to_owned()))?;
    let bytes = api::file(&base, file).await?;
    let tokenizer =
        Tokenizer::from_json(&bytes).map_err(|error| Problem::Misunderstood(error.to_string()))?;
    Ok(Model { manifest, tokenizer, base, served })
}

/// Fetches what the model learned, if its folder says so. The page works without it.
fn fetch_vocabulary(controller: Controller, model: &Arc<Model>) {
    let model = Arc::clone(model);
    spawn_local(async move {
        let Some(file) = model.manifest.file(files::VOCABULARY) else { return };
        if let Ok(bytes) = api::file(&model.base, file).await {
            controller.app.vocabulary.set(Known::from_json(&bytes).map(Arc::new));
        }
    });
}

/// Fetches the model card, if the model has one. The page works without it.
fn fetch_model_card(controller: Controller, model: &Arc<Model>) {
    let model = Arc::clone(model);
    spawn_local(async move {
        let Some(file) = model.manifest.file(files::MODEL_CARD) else { return };
        if let Ok(bytes) = api::file(&model.base, file).await {
            let limits = model_card::section(&String::from_utf8_lossy(&bytes), "Limitations");
            let address = address(&model.base, &file.url);
            controller.app.model_card.set(Some(Arc::new(ModelCard { address, limits })));
        }
    });
}

fn opened(controller: Controller, model: &Arc<Model>, link: Option<Link>) {
    controller.open(Arc::clone(model));
    model_files::keep_only(&model.manifest);
    fetch_vocabulary(controller, model);
    fetch_model_card(controller, model);
    actions::start_decoder(controller);
    let stored = stored(model, link.as_ref());
    let restored = stored.as_ref().map(|(prompt, _)| prompt.link());
    match stored {
        Some((prompt, session)) => {
            controller.app.form.restore(&prompt.link());
            // The seed in the address has been used.
            controller.app.form.seed_use.set(SeedUse::Never);
            controller.generation(GenerationInput::Restore(prompt, session));
        }
        None => storage::forget(),
    }
    if let Some(lesson) = lessons::of_fragment(&browser::fragment()) {
        actions::lesson(controller, lesson);
    }
    let Some(link) = link else { return };
    if let Some(restored) = restored {
        take_prefix(controller, &restored);
    } else if !(link.has_images() && actions::open_images(controller, &link)) {
        let whole = take_prefix(controller, &link);
        // Not after a reload: what was stopped or failed then is not started again.
        if whole && !storage::knows_link(&link) {
            generate(controller);
        }
    }
}

/// What this tab showed before, by this model. A link that was opened since then says more.
fn stored(model: &Model, opened: Option<&Link>) -> Option<(Prompt, Session)> {
    let (session, link) = storage::load()?;
    let prompt = match session.result {
        Some(_) => Inputs::prompt_of(&link, model).ok()?,
        None => {
            let place = Place::of_events(&session.created.events);
            let request =
                Inputs::of_link(&link).request(model, place).ok().filter(|_| model.runs_at(place))?;
            Prompt { caption: link.caption.clone(), request, seeds: Vec::new() }
        }
    };
    let same = |opened: &Link| *opened == link || session.link_to_shown().as_ref() == Some(opened);
    let shown = link.model == model.manifest.hash && opened.is_none_or(same);
    shown.then_some((prompt, session))
}

/// Follows a link that came into the address later: by Back or Forward, or pasted there, which loads nothing.
pub fn follow_link(controller: Controller) {
    if let Some(lesson) = lessons::of_fragment(&browser::fragment()) {
        return actions::lesson(controller, lesson);
    }
    let Some(link) = Link::from_fragment(&browser::fragment()) else { return };
    // Back from a lesson leads to the link of what is on display already.
    let displayed = untrack(|| controller.app.link());
    let is_displayed =
        displayed.is_some_and(|shown| shown == link || shown.has_images() && shown.without_images() == link);
    if is_displayed || controller.app.model.with_untracked(Option::is_none) {
        return;
    }
    if link.has_images() && actions::open_images(controller, &link) {
        return;
    }
    controller.app.form.restore(&link);
    if take_prefix(controller, &link) {
        generate(controller);
    }
}

fn generate(controller: Controller) {
    if let Err(invalid) = actions::generate(controller) {
        controller.app.notice.set(Some(invalid.message));
    }
}

/// Takes the prefix of a link. Returns whether the model served makes the images that the link was made for; if not, says why.
fn take_prefix(controller: Controller, link: &Link) -> bool {
    let app = controller.app;
    let other = app.model.with_untracked(|model| {
        model.as_ref().is_some_and(|model| !link.model.is_empty() && link.model != model.manifest.hash)
    });
    let has_prefix = link.prefix.as_ref().is_none_or(|prefix| !prefix.is_empty());
    let notice = if other {
        actions::remove_prefix(controller);
        let left_out = if has_prefix {
            " The rows that they begin with belong to that model and are left out."
        } else {
            ""
        };
        format!(
            "This link was made with another model than the one served now: its images will differ.{left_out}"
        )
    } else if link.tokens.is_none() || link.has_images() {
        "The link is damaged: its images are left out. Press Generate to sample images of its caption again."
            .to_owned()
    } else if !actions::restore_prefix(controller, link) {
        "The link is damaged: the rows that its images begin with are left out, so they will differ."
            .to_owned()
    } else {
        return true;
    };
    app.notice.set(Some(notice));
    false
}
