//! The timeline: steps, playing, and a slider over all tokens with a tick for each, darker where the prior was less sure.

use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::text::{flag, text};
use crate::actions;
use crate::canvas::draw_ticks;
use crate::controller::controller;
use crate::explain::SPEEDS;
use crate::subject;

#[component]
pub fn Timeline() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let ticks = NodeRef::<Canvas>::new();
    Effect::new(move |_| {
        if let Some(canvas) = ticks.get() {
            explain.steps.with(|steps| draw_ticks(&canvas, steps));
        }
    });
    let now = text(move || {
        let position = explain.position.get();
        explain.subject.with(|subject| {
            subject.as_ref().map_or_else(String::new, |subject| {
                explain.steps.with(|steps| subject::describe(subject, steps, position, explain.grid()))
            })
        })
    });
    let last = move || explain.length().saturating_sub(1);
    let go = move |position: usize| controller.ask(explain.go(position));
    let button = move |name: &'static str,
                       label: &'static str,
                       shape: &'static str,
                       press: fn(crate::controller::Controller)| {
        view! {
            <button type="button" class="icon" data-testid=name aria-label=label title=label on:click=move |_| press(controller)>
                <svg viewBox="0 0 24 24" aria-hidden="true"><path class="solid" d=shape></path></svg>
            </button>
        }
    };
    view! {
        <div class="timeline">
            <div class="transport" role="group" aria-label="Timeline">
                {button("first", "First token", "M4 6h2v12h-2zM13 6v12l-7-6zM20 6v12l-7-6z", |controller| controller.ask(controller.app.explain.go(0)))}
                {button("back", "One token back", "M17 6v12l-9-6zM6 6h2v12h-2z", |controller| actions::step(controller, -1))}
                <button
                    type="button"
                    class="icon play"
                    data-testid="play"
                    aria-label=text(move || if explain.playing.get().is_some() { "Pause" } else { "Play" }.to_owned())
                    aria-pressed=flag(move || explain.playing.get().is_some())
                    on:click=move |_| actions::play_or_pause(controller)
                >
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <path
                            class="solid"
                            d=move || if explain.playing.get().is_some() { "M7 5h4v14h-4zM13 5h4v14h-4z" } else { "M7 4v16l13-8z" }
                        ></path>
                    </svg>
                </button>
                {button("forward", "One token forward", "M7 6v12l9-6zM16 6h2v12h-2z", |controller| actions::step(controller, 1))}
                {button("last", "Last token", "M18 6h2v12h-2zM4 6v12l7-6zM11 6v12l7-6z", |controller| controller.ask(controller.app.explain.go(usize::MAX)))}
                <label class="unseen" for="speed">"Speed"</label>
                <select
                    id="speed"
                    data-testid="speed"
                    on:change:target=move |event| {
                        if let Ok(speed) = event.target().value().parse() {
                            explain.speed.set(speed);
                        }
                    }
                >
                    {SPEEDS.map(|speed| view! {
                        <option value=speed.to_string() selected=move || explain.speed.get() == speed>
                            {if speed == 1 { "1 token/s".to_owned() } else { format!("{speed} tokens/s") }}
                        </option>
                    })}
                </select>
            </div>
            <div class="scrub">
                <canvas class="ticks" node_ref=ticks width=text(move || explain.length().to_string()) height="1" aria-hidden="true"></canvas>
                <input
                    type="range"
                    data-testid="scrub"
                    aria-label="Token"
                    min="0"
                    max=last
                    prop:value=text(move || explain.position.get().to_string())
                    aria-valuetext=now
                    on:input:target=move |event| {
                        if let Ok(position) = event.target().value().parse() {
                            go(position);
                        }
                    }
                />
            </div>
            <p class="now" data-testid="now">{now}</p>
        </div>
    }
}
