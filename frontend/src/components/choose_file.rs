//! A button that opens the browser's file dialog.

use leptos::html::{Button, Input};
use leptos::prelude::*;
use web_sys::File;

/// Takes the file that a person chooses. Tests find the button as `NAME-choose` and its input as `NAME-file`.
#[component]
pub fn ChooseFile(
    name: &'static str,
    class: &'static str,
    /// The kinds of files, as MIME types.
    accept: &'static str,
    /// Id of the element that describes the button.
    #[prop(optional, into)]
    described_by: Option<&'static str>,
    #[prop(optional)] button: NodeRef<Button>,
    #[prop(into)] label: Signal<String>,
    take: impl Fn(File) + 'static,
) -> impl IntoView {
    let input = NodeRef::<Input>::new();
    view! {
        <button
            type="button"
            class=class
            node_ref=button
            data-testid=format!("{name}-choose")
            aria-describedby=described_by
            on:click=move |_| {
                if let Some(input) = input.get_untracked() {
                    input.click();
                }
            }
        >
            {label}
        </button>
        <input
            node_ref=input
            hidden
            type="file"
            accept=accept
            data-testid=format!("{name}-file")
            on:change:target=move |event| {
                if let Some(file) = event.target().files().and_then(|files| files.get(0)) {
                    take(file);
                }
                // The same file can be chosen again.
                event.target().set_value("");
            }
        />
    }
}
