//! From an empty page to one that knows its server and model, and the way back into a generation after a reload.

use std::sync::Arc;

use dalle_shared::{Tokenizer, files};
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::link::Link;
use crate::problem::Problem;
use crate::session::Session;
use crate::state::{App, Model, Phase};
use crate::{api, browser, decoding, generation, start};

/// Restores the inputs, asks the server for its model, starts the decoder, and follows the generation that this tab followed
/// before, if there is one.
pub fn connect(app: App) {
    let link = Link::from_fragment(&browser::fragment());
    if let Some(link) = &link {
        app.form.restore(link);
    }
    app.phase.set(Phase::Loading);
    app.problem.set(None);
    spawn_local(async move {
        match describe(app).await {
            Ok(model) => opened(app, Arc::new(model), link),
            Err(problem) => app.fail(problem),
        }
    });
}

async fn describe(app: App) -> Result<Model, Problem> {
    let backend = api::backend().await?;
    app.backend.set(backend.clone());
    let manifest = api::model(&backend).await?;
    let listed = manifest.file(files::TOKENIZER);
    let file =
        listed.ok_or_else(|| Problem::Misunderstood("the manifest lists no tokenizer.json".to_owned()))?;
    let bytes = api::file(&backend, file).await?;
    let tokenizer =
        Tokenizer::from_json(&bytes).map_err(|error| Problem::Misunderstood(error.to_string()))?;
    Ok(Model { manifest, tokenizer })
}

fn opened(app: App, model: Arc<Model>, link: Option<Link>) {
    let hash = model.manifest.hash.clone();
    app.model.set(Some(model));
    app.phase.set(Phase::Idle);
    decoding::start(app);
    // A link that was opened says more than what this tab did before.
    let kept = Session::kept().filter(|session| link.as_ref().is_none_or(|link| session.is_behind(link)));
    match kept {
        Some(session) if session.request.model == hash => generation::resume(app, session),
        _ => Session::forget(),
    }
    if let Some(link) = link {
        compare(app, &link);
    }
}

/// Fills the inputs from a link that came into the address later: pasted there, it loads nothing.
pub fn follow_link(app: App) {
    if let Some(link) = Link::from_fragment(&browser::fragment()) {
        app.form.restore(&link);
        compare(app, &link);
    }
}

/// Begins with what the link begins with, and says so if that, or its model, is not what it was.
fn compare(app: App, link: &Link) {
    let other = app.model.with_untracked(|model| {
        model.as_ref().is_some_and(|model| !link.model.is_empty() && link.model != model.manifest.hash)
    });
    let begins = link.prefix.as_ref().is_none_or(|prefix| !prefix.is_empty());
    let notice = if other {
        start::clear(app);
        let left_out =
            if begins { " What they begin with belongs to that model and is left out." } else { "" };
        format!(
            "This link was made with another model than the one served now: its pictures will differ.{left_out}"
        )
    } else if !link.prefix.clone().is_some_and(|prefix| start::restore(app, prefix)) {
        "The link is damaged: what its pictures begin with is left out, so they will differ.".to_owned()
    } else {
        return;
    };
    app.notice.set(Some(notice));
}
