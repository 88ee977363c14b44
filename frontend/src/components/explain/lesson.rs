//! The card of a lesson.

use leptos::prelude::*;

use super::super::text::text;
use crate::controller::controller;
use crate::lessons::{LESSONS, fragment};

/// The lesson on display, with links to those before and after it; or a link to the first.
#[component]
pub fn LessonCard() -> impl IntoView {
    let explain = controller().app.explain;
    let title = text(move || match explain.lesson.get() {
        Some(index) => format!("{} of {}: {}", index + 1, LESSONS.len(), LESSONS[index].title),
        None => String::new(),
    });
    let words =
        text(move || explain.lesson.get().map_or_else(String::new, |index| LESSONS[index].text.to_owned()));
    let before = move || explain.lesson.get().and_then(|index| index.checked_sub(1));
    let after = move || {
        explain.lesson.get().map_or(Some(0), |index| Some(index + 1)).filter(|next| *next < LESSONS.len())
    };
    view! {
        <div class="lesson" class:none=move || explain.lesson.get().is_none()>
            <div role="status">
                <h3 data-testid="lesson">{title}</h3>
                <p>{words}</p>
            </div>
            <p class="lesson-links">
                {move || before().map(|index| view! { <a class="quiet" data-testid="lesson-back" href=format!("#{}", fragment(index))>"Back"</a> })}
                {move || after().map(|index| view! {
                    <a class="quiet" data-testid="lesson-next" href=format!("#{}", fragment(index))>
                        {if explain.lesson.get().is_none() { "Start the seven lessons" } else { "Next" }}
                    </a>
                })}
            </p>
        </div>
    }
}
