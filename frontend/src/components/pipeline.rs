//! What is happening: the way from caption to pixels, with the numbers of this very run.

use leptos::prelude::*;

use crate::controller::app;
use crate::decoder::DecoderState;
use crate::format;
use crate::phase::Phase;
use crate::place::Place;
use crate::state::App;

/// Shown for a number that is not known yet.
const UNKNOWN: &str = "–";

#[component]
pub fn Pipeline() -> impl IntoView {
    let app = app();
    let phase = move || app.phase.get();
    let queued = move || phase() == Phase::Queued;
    let running = move || phase() == Phase::Running;
    let decoding = move || matches!(phase(), Phase::Running | Phase::Decoding);
    let still = move || !phase().is_active() && phase() != Phase::Decoding;
    view! {
        <section class="pipeline" aria-labelledby="pipeline-title">
            <h2 id="pipeline-title">"What is happening"</h2>
            <ol class:still=still>
                <Station name="Caption" number=move || characters(app) active=queued>
                    "Your words."
                </Station>
                <Station name="Text tokens" number=move || text_tokens(app) active=queued>
                    "Byte-pair encoding splits them into pieces, each with a number."
                </Station>
                <Station name="Prior" number=move || parameters(app) active=running>
                    {move || match app.place.get() {
                        Place::Server => "A transformer on the server reads all tokens so far and predicts the next one.",
                        Place::Browser => "A transformer in your browser reads all tokens so far and predicts the next one.",
                    }}
                </Station>
                <Station name="Image tokens" number=move || image_tokens(app) active=running>
                    "Each is an entry of a codebook of small image parts, row by row."
                </Station>
                <Show when=move || best_of(app).is_some()>
                    <Station
                        name="CLIP"
                        number=move || format!("best of {}", best_of(app).unwrap_or_default())
                        active=running
                    >
                        "Another network on the server scores how well each image fits the caption."
                    </Station>
                </Show>
                <Station name="dVAE decoder" number=move || decode_time(app) active=decoding>
                    "A convolutional network in your browser turns the grid into colours."
                </Station>
                <Station name="Pixels" number=move || pixels(app) active=decoding>
                    "Eight by eight for each token, blended with those around it."
                </Station>
            </ol>
        </section>
    }
}

/// Characters of the caption on display, or of the one being typed.
fn characters(app: App) -> String {
    let caption = app.displayed.get().map_or_else(|| app.form.caption.get(), |prompt| prompt.caption);
    format::plural(caption.trim().chars().count(), "character")
}

fn text_tokens(app: App) -> String {
    match app.displayed.get() {
        Some(prompt) => format::plural(prompt.request.text.len(), "id"),
        None if app.model.with(Option::is_some) => {
            format!("up to {}", format::plural(app.geometry().caption_length(), "id"))
        }
        None => UNKNOWN.to_owned(),
    }
}

fn parameters(app: App) -> String {
    app.model.with(|model| match model {
        Some(model) => format!("{} weights", format::large(model.manifest.prior_parameters)),
        None => UNKNOWN.to_owned(),
    })
}

fn image_tokens(app: App) -> String {
    let tally = app.tally.get();
    match tally.total > 0 {
        true => format!("{} of {}", format::count(tally.tokens as u64), format::count(tally.total as u64)),
        false if app.model.with(Option::is_some) => format!("{0} × {0}", app.geometry().grid),
        false => UNKNOWN.to_owned(),
    }
}

/// Among how many images the best are chosen.
fn best_of(app: App) -> Option<usize> {
    match app.displayed.get() {
        Some(prompt) => prompt.request.best_of,
        None => app.model.with(|model| app.form.inputs().best_of(model.as_ref()?, app.place.get())),
    }
}

fn decode_time(app: App) -> String {
    match (app.decode_ms.get(), app.decoder.get()) {
        (Some(ms), _) | (None, DecoderState::Ready { decode_ms: ms, .. }) => format!("{ms:.0} ms an image"),
        (None, DecoderState::Failed(_)) => "not available".to_owned(),
        _ => "loading".to_owned(),
    }
}

fn pixels(app: App) -> String {
    match app.model.with(Option::is_some) {
        true => format!("{0} × {0} pixels", app.geometry().image_size),
        false => UNKNOWN.to_owned(),
    }
}

#[component]
fn Station(
    name: &'static str,
    #[prop(into)] number: Signal<String>,
    #[prop(into)] active: Signal<bool>,
    children: Children,
) -> impl IntoView {
    view! {
        <li class:active=active>
            <h3>{name}</h3>
            <p class="number">{number}</p>
            <p class="why">{children()}</p>
        </li>
    }
}
