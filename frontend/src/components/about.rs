//! The foot of the page: what the model cannot do, and links to its model card, the paper and the code.

use leptos::prelude::*;

use crate::controller::app;

/// The paper on arXiv.
const PAPER: &str = "https://arxiv.org/abs/2102.12092";

#[component]
pub fn About() -> impl IntoView {
    let app = app();
    let link = |name: &'static str, address: String, label: &'static str| {
        // In a tab of its own: what is on display stays.
        view! { <a href=address data-testid=name target="_blank" rel="noopener noreferrer">{label}</a> }
    };
    let limits = move || {
        let card = app.model_card.get().filter(|card| !card.limits.is_empty())?;
        let items = card.limits.iter().map(|limit| view! { <li>{limit.clone()}</li> }).collect_view();
        Some(view! {
            <details class="limits">
                <summary data-testid="limits">"What this model cannot do"</summary>
                <ul data-testid="limits-list">{items}</ul>
            </details>
        })
    };
    view! {
        <footer class="about">
            {limits}
            <nav aria-label="Sources">
                {link("paper", PAPER.to_owned(), "The paper")}
                {move || app.source.get().map(|source| link("source", source, "The code"))}
                {move || app.model_card.get().map(|card| link("model-card", card.address.clone(), "Model card"))}
            </nav>
        </footer>
    }
}
