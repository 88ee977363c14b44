//! The caption as text tokens, while it is typed.

use dalle_shared::Encoding;
use leptos::prelude::*;

use super::text::text;
use crate::controller::app;
use crate::format;

#[component]
pub fn Chips() -> impl IntoView {
    let app = app();
    let encoding = Memo::new(move |_| {
        let caption = app.form.caption.get();
        app.model.with(|model| {
            let model = model.as_ref()?;
            model.tokenizer.encode(&caption, model.geometry().caption_length()).ok()
        })
    });
    let length = move || app.geometry().caption_length();
    let summary = text(move || match encoding.get() {
        Some(Encoding { ids, cut: 0, .. }) if ids.is_empty() => {
            format!("The caption becomes up to {} text tokens", length())
        }
        Some(Encoding { ids, cut: 0, .. }) => {
            format!("{} of at most {}", format::plural(ids.len(), "text token"), length())
        }
        Some(Encoding { cut, .. }) => {
            format!("Too long: the last {} will not be used", format::plural(cut, "token"))
        }
        None => "Waiting for the tokenizer".to_owned(),
    });
    let chips = move || {
        let Some(Encoding { ids, pieces, .. }) = encoding.get() else { return Vec::new() };
        ids.into_iter()
            .zip(pieces)
            .map(|(id, piece)| {
                view! {
                    <li title=format!("Token {}", id.0)>
                        <span class="piece">{visible(piece)}</span>
                        <span class="id">{id.0}</span>
                    </li>
                }
            })
            .collect()
    };
    view! {
        <div class="tokens">
            <p id="caption-tokens" class:warn=move || encoding.with(|e| e.as_ref().is_some_and(|e| e.cut > 0))>
                {summary}
            </p>
            // One stop of the Tab key for all chips: focus shows every id, as hovering shows one.
            <ul class="chips" data-testid="chips" tabindex="0" aria-label="Text tokens and their ids">
                {chips}
            </ul>
        </div>
    }
}

/// A piece of nothing but spaces as a character that can be seen.
fn visible(piece: String) -> String {
    if piece.trim().is_empty() { "␣".to_owned() } else { piece }
}
