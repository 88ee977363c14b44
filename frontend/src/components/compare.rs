//! Entries of the history side by side.

use std::sync::Arc;

use dalle_shared::SamplingSettings;
use leptos::html::Canvas;
use leptos::prelude::*;

use super::text::text;
use crate::canvas::draw_pixels;
use crate::controller::controller;
use crate::history::Entry;
use crate::link::Link;
use crate::{actions, format};

#[component]
pub fn Compare() -> impl IntoView {
    let history = controller().app.history;
    let compares = move || history.compared.with(Option::is_some);
    let entries = move || {
        let keys = history.compared.get().unwrap_or_default();
        keys.into_iter().filter_map(|key| history.get(key)).collect::<Vec<_>>()
    };
    view! {
        <Show when=compares>
            <div class="compare" data-testid="compared">
                <p class="hint" role="status">
                    {text(move || match entries().len() {
                        0 => "Press images below to see them side by side.".to_owned(),
                        count => format!("{} side by side. Press one again to remove it.", format::plural(count, "image")),
                    })}
                </p>
                <For each=entries key=|entry| entry.key() let(entry)><Side entry/></For>
            </div>
        </Show>
    }
}

#[component]
fn Side(entry: Arc<Entry>) -> impl IntoView {
    let controller = controller();
    let app = controller.app;
    actions::decode_entry(controller, &entry);
    let shown = RwSignal::from(entry.shown.clone());
    let canvas = NodeRef::<Canvas>::new();
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            shown.with(|shown| draw_pixels(&canvas, shown.as_deref(), app.geometry().grid));
        }
    });
    let size = text(move || app.geometry().image_size.to_string());
    let caption = entry.link.caption.clone();
    let settings = settings(&entry.link, entry.first());
    view! {
        <figure>
            <div class="plate">
                <canvas node_ref=canvas width=size height=size role="img" aria-label=caption.clone()></canvas>
            </div>
            <figcaption>
                <q dir="auto">{caption}</q>
                <span class="by">{settings}</span>
            </figcaption>
        </figure>
    }
}

/// The seed of an image, and the settings that are not the default.
fn settings(link: &Link, image: usize) -> String {
    let SamplingSettings { temperature, top_k, top_p, guidance } = link.settings;
    let default = SamplingSettings::default();
    let parts = [
        Some(format!("seed {}", link.seed_of(image).0)),
        (temperature != default.temperature).then(|| format!("temperature {temperature}")),
        top_k.map(|k| format!("top-k {k}")),
        top_p.map(|p| format!("top-p {p}")),
        (guidance != default.guidance).then(|| format!("guidance {guidance}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_seed_and_what_is_not_the_default() {
        let of = |fragment: &str| settings(&Link::from_fragment(fragment).expect("a link"), 2);
        assert_eq!(of("caption=x&seed=7"), "seed 9");
        assert_eq!(
            of("caption=x&seed=7&temperature=1&top_k=8&top_p=0.9"),
            "seed 9, temperature 1, top-k 8, top-p 0.9"
        );
    }
}
