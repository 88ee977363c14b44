//! How an image came about: a timeline over its tokens, and lenses over the position on it.

mod attention;
mod cells;
mod codes;
mod decoder;
mod lenses;
mod lesson;
mod picture;
mod probabilities;
mod stage;
mod timeline;

use std::sync::Arc;

use leptos::prelude::*;

use self::lenses::Lenses;
use self::lesson::LessonCard;
use self::stage::Stage;
use self::timeline::Timeline;
use super::text::{flag, text};
use crate::browser;
use crate::controller::controller;
use crate::subject::{self, Origin, Subject};

/// The explanation, in the place of the images.
#[component]
pub fn ExplainPanel() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let is_open = move || explain.subject.with(Option::is_some);
    let close = move |_| {
        explain.lesson.set(None);
        controller.ask(explain.close());
        browser::leave_full_screen();
        browser::focus("result");
    };
    let present = move |_| {
        let presenting = !explain.presenting.get_untracked();
        explain.presenting.set(presenting);
        if presenting { browser::enter_full_screen() } else { browser::leave_full_screen() }
    };
    // The class is on the root, because it changes what surrounds the explanation.
    Effect::new(move |_| browser::set_root_class("presenting", explain.presenting.get()));
    view! {
        <Show when=is_open>
            <section class="explain" id="explain" tabindex="-1" aria-labelledby="explain-title" data-testid="explain">
                <div class="explain-head">
                    <h2 id="explain-title">"How this image came about"</h2>
                    <button
                        type="button"
                        class="quiet"
                        data-testid="present"
                        aria-pressed=flag(move || explain.presenting.get())
                        on:click=present
                    >
                        "Present"
                    </button>
                    <button type="button" class="quiet" data-testid="explain-close" on:click=close>"Back to the images"</button>
                </div>
                <LessonCard/>
                <Timeline/>
                <Stage/>
                <div class="lens-box">
                    <Branches/>
                    <Lenses/>
                </div>
            </section>
        </Show>
    }
}

/// The image and its branches, once there are any.
#[component]
fn Branches() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let several = move || explain.branches.with(|branches| branches.len() > 1);
    let branches = move || explain.branches.get().into_iter().enumerate().collect::<Vec<_>>();
    let name = move |index: usize, branch: &Subject| match branch.origin {
        Origin::Sampled => "As sampled".to_owned(),
        Origin::Forced(position) => format!("Branch {index}: {}", subject::place(position, explain.grid())),
        Origin::Picture => "Your picture".to_owned(),
        Origin::Continued(start) => {
            format!("Branch {index}: your picture, from row {}", start / explain.grid() + 1)
        }
    };
    view! {
        <Show when=several>
            <div class="branches" role="group" aria-label="Branches">
                <For each=branches key=|(_, branch)| branch.ticket.number() let((index, branch))>
                    {
                        let label = name(index, &branch);
                        let shown = Arc::clone(&branch);
                        let is_shown = move || explain.subject.with(|now| now.as_ref().is_some_and(|now| now.ticket == branch.ticket));
                        view! {
                            <button
                                type="button"
                                class="example"
                                data-testid=format!("branch-{index}")
                                aria-pressed=flag(is_shown)
                                on:click=move |_| controller.ask(explain.show(Arc::clone(&shown)))
                            >
                                {label}
                            </button>
                        }
                    }
                </For>
            </div>
        </Show>
        <p class="hint" role="status">
            {text(move || match (explain.failure.get(), explain.branching.with(Option::is_some)) {
                (Some(why), _) => format!("The prior cannot explain this image: {why}."),
                (None, true) => "Sampling the branch…".to_owned(),
                (None, false) => String::new(),
            })}
        </p>
    }
}
