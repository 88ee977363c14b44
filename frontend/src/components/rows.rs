//! How many rows of an image to keep: a slider, named by what it says.

use leptos::prelude::*;

use super::text::text;

#[component]
pub fn Rows(
    #[prop(into)] id: Signal<String>,
    rows: RwSignal<usize>,
    #[prop(into)] most: Signal<usize>,
    #[prop(into)] grid: Signal<usize>,
) -> impl IntoView {
    let kept = move || format!("{} of {} rows", rows.get(), grid.get());
    view! {
        <label for=id>{text(move || format!("Keep {}", kept()))}</label>
        <input
            id=id
            data-testid=id
            type="range"
            min="1"
            max=most
            prop:value=text(move || rows.get().to_string())
            aria-valuetext=text(kept)
            on:input:target=move |event| {
                if let Ok(chosen) = event.target().value().parse() {
                    rows.set(chosen);
                }
            }
        />
    }
}
