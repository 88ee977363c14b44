//! What is happening: the way from caption to pixels, with the numbers of this very run.

use leptos::prelude::*;

use crate::decoder::DecoderState;
use crate::format;
use crate::phase::Phase;
use crate::state::app;

#[component]
pub fn Pipeline() -> impl IntoView {
    let app = app();
    let phase = move || app.phase.get();
    let geometry =
        Memo::new(move |_| app.model.with(|model| model.as_ref().map(|model| model.manifest.geometry)));
    let with_geometry = move |show: fn(&dalle_shared::Geometry) -> String| {
        geometry.with(|geometry| geometry.as_ref().map_or_else(|| "–".to_owned(), show))
    };

    let words = move || {
        let caption = match app.displayed.get() {
            Some(prompt) => prompt.caption,
            None => app.form.caption.get(),
        };
        format::plural(caption.trim().chars().count(), "character")
    };
    let ids = move || match app.displayed.get() {
        Some(prompt) => format::plural(prompt.request.text.len(), "id"),
        None => {
            with_geometry(|geometry| format!("up to {}", format::plural(geometry.caption_length(), "id")))
        }
    };
    let prior = move || {
        app.model.with(|model| {
            model.as_ref().map_or_else(
                || "–".to_owned(),
                |model| format!("{} weights", format::large(model.manifest.prior_parameters)),
            )
        })
    };
    let image_tokens = move || {
        let tally = app.tally.get();
        match app.displayed.with(Option::is_some) {
            true => {
                format!("{} of {}", format::count(tally.tokens as u64), format::count(tally.total as u64))
            }
            false => with_geometry(|geometry| format!("{0} × {0}", geometry.grid)),
        }
    };
    let drawn = move || match app.displayed.get() {
        Some(prompt) => prompt.request.best_of,
        None => app
            .model
            .with(|model| model.as_ref().and_then(|model| app.form.inputs().best_of(&model.manifest))),
    };
    let best = move || format!("best of {}", drawn().unwrap_or_default());
    let dvae = move || match (app.decode_ms.get(), app.decoder.get()) {
        (Some(ms), _) | (None, DecoderState::Ready { decode_ms: ms, .. }) => format!("{ms:.0} ms a picture"),
        (None, DecoderState::Failed(_)) => "not available".to_owned(),
        _ => "loading".to_owned(),
    };
    let pixels = move || with_geometry(|geometry| format!("{0} × {0} pixels", geometry.image_size));

    let running = move || phase() == Phase::Running;
    let drawing = move || matches!(phase(), Phase::Running | Phase::Decoding);
    let idle = move || !phase().is_active() && phase() != Phase::Decoding;
    view! {
        <section class="pipeline" aria-labelledby="pipeline-title">
            <h2 id="pipeline-title">"What is happening"</h2>
            <ol class:still=idle>
                <Station name="Caption" number=words active=move || phase() == Phase::Queued>
                    "Your words."
                </Station>
                <Station name="Text tokens" number=ids active=move || phase() == Phase::Queued>
                    "Byte-pair encoding cuts them into pieces it knows by number."
                </Station>
                <Station name="Prior" number=prior active=running>
                    "A transformer on the server reads all tokens so far and guesses the next one."
                </Station>
                <Station name="Image tokens" number=image_tokens active=running>
                    "Each one names an entry of a codebook of small picture parts, row by row."
                </Station>
                <Show when=move || drawn().is_some()>
                    <Station name="Contrastive model" number=best active=running>
                        "Another network on the server scores how well each picture fits the caption."
                    </Station>
                </Show>
                <Station name="dVAE decoder" number=dvae active=drawing>
                    "A convolutional network in your browser turns the grid into colours."
                </Station>
                <Station name="Pixels" number=pixels active=drawing>
                    "Each token has become eight by eight of them."
                </Station>
            </ol>
        </section>
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
