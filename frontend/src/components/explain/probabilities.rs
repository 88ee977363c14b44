//! What could have come at the position on the timeline: the likeliest codes before and after the settings, and the random number
//! that chose. Another code can be forced; the image then continues from it as a branch.

use dalle_shared::{ImageToken, SamplingSettings, TokenChoice, TokenChoices};
use leptos::html::Canvas;
use leptos::prelude::*;

use super::super::text::text;
use crate::canvas::draw_tile;
use crate::codebook::TILE;
use crate::controller::controller;
use crate::format;

#[component]
pub fn Probabilities() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    view! {
        <Show
            when=move || explain.has_prior()
            fallback=|| view! { <p class="hint">"This model's prior is too large for a browser, so that its probabilities are not known here."</p> }
        >
            <Settings/>
            // Those of the position before stay until the new ones are known, so that nothing jumps.
            {move || match explain.choices.get() {
                Some((position, choices)) => view! { <Choices position choices/> }.into_any(),
                None => view! { <p class="hint">"Reading the image again…"</p> }.into_any(),
            }}
        </Show>
    }
}

/// The settings of the probabilities on display. They change what the bars show, and what a branch is sampled with.
#[component]
fn Settings() -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let change = move |change: &dyn Fn(&mut SamplingSettings)| {
        let mut settings = explain.settings.get_untracked();
        change(&mut settings);
        // What is out of range is not asked for.
        if settings.validate(usize::MAX).is_ok() {
            explain.settings.set(settings);
            controller.ask(explain.ask_lens());
        }
    };
    let temperature = text(move || format!("{:.2}", explain.settings.get().temperature));
    let top_k = text(move || explain.settings.get().top_k.map(|k| k.to_string()).unwrap_or_default());
    let top_p = text(move || explain.settings.get().top_p.map(|p| p.to_string()).unwrap_or_default());
    view! {
        <div class="explain-settings">
            <div class="field">
                <label for="explain-temperature">"Temperature "{temperature}</label>
                <input
                    id="explain-temperature"
                    data-testid="explain-temperature"
                    type="range"
                    min="0"
                    max="2"
                    step="0.05"
                    prop:value=temperature
                    on:input:target=move |event| if let Ok(value) = event.target().value().parse() {
                        change(&|settings| settings.temperature = value);
                    }
                />
            </div>
            <div class="field">
                <label for="explain-top-k">"Top-k"</label>
                <input
                    id="explain-top-k"
                    type="number"
                    min="1"
                    placeholder="off"
                    prop:value=top_k
                    on:change:target=move |event| {
                        let value = event.target().value().parse().ok();
                        change(&|settings| settings.top_k = value);
                    }
                />
            </div>
            <div class="field">
                <label for="explain-top-p">"Top-p"</label>
                <input
                    id="explain-top-p"
                    type="number"
                    min="0"
                    max="1"
                    step="0.05"
                    placeholder="off"
                    prop:value=top_p
                    on:change:target=move |event| {
                        let value = event.target().value().parse().ok();
                        change(&|settings| settings.top_p = value);
                    }
                />
            </div>
        </div>
    }
}

#[component]
fn Choices(position: usize, choices: TokenChoices) -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let TokenChoices { likeliest, kept, entropy, uniform, chosen } = choices;
    let newest = explain
        .subject
        .with_untracked(|subject| subject.as_ref().and_then(|subject| subject.tokens.get(position).copied()));
    let summary = format!(
        "{} could come; the settings leave {}. Entropy {:.1} bits.",
        format::plural(untrack(|| explain.vocab()), "code"),
        format::count(kept as u64),
        entropy
    );
    let shares: Vec<_> = likeliest
        .iter()
        .filter(|choice| choice.after > 0.002)
        .map(|choice| {
            let style = format!("left:{:.3}%;width:{:.3}%", choice.from * 100.0, choice.after * 100.0);
            view! { <span class="share" class:chosen=choice.token == chosen style=style></span> }
        })
        .collect();
    let most = likeliest.iter().map(|choice| choice.after.max(choice.before)).fold(0.01, f64::max);
    let rows: Vec<_> = likeliest
        .into_iter()
        .map(|choice| view! { <Choice choice most is_newest=newest == Some(choice.token)/> })
        .collect();
    view! {
        <p class="hint">{summary}</p>
        <div class="strip" aria-hidden="true">
            {shares}
            <span class="pin" style=format!("left:{:.3}%", uniform * 100.0)></span>
        </div>
        <p class="hint">
            {format!("The random number {uniform:.4} is in the share of code {}.", chosen.0)}
        </p>
        <table class="choices" data-testid="choices" data-position=position.to_string()>
            <thead>
                <tr>
                    <th scope="col">"Code"</th>
                    <th scope="col">"Prior"</th>
                    <th scope="col">"With the settings"</th>
                    <th scope="col"><span class="unseen">"Force"</span></th>
                </tr>
            </thead>
            <tbody>{rows}</tbody>
        </table>
    }
}

#[component]
fn Choice(choice: TokenChoice, most: f64, is_newest: bool) -> impl IntoView {
    let controller = controller();
    let explain = controller.app.explain;
    let TokenChoice { token, before, after, .. } = choice;
    let bar = |share: f64| format!("width:{:.2}%", share / most * 100.0);
    let cut = after == 0.0;
    let button = match is_newest {
        true => view! { <span class="hint">"is here"</span> }.into_any(),
        false => view! {
            <button
                type="button"
                class="quiet"
                data-testid=format!("force-{}", token.0)
                aria-label=format!("Force code {}", token.0)
                on:click=move |_| controller.ask(explain.force(token))
            >
                "Force"
            </button>
        }
        .into_any(),
    };
    view! {
        <tr class:newest=is_newest class:cut=cut>
            <th scope="row"><Tile token/><span>{token.0}</span></th>
            <td><span class="bar-box"><span class="before" style=bar(before)></span></span><span>{format::percent(before)}</span></td>
            <td>
                <span class="bar-box"><span class="after" style=bar(after)></span></span>
                <span>{if cut { "cut".to_owned() } else { format::percent(after) }}</span>
            </td>
            <td>{button}</td>
        </tr>
    }
}

/// What a code looks like.
#[component]
pub fn Tile(#[prop(into)] token: Signal<ImageToken>) -> impl IntoView {
    let explain = controller().app.explain;
    let canvas = NodeRef::<Canvas>::new();
    Effect::new(move |_| {
        if let Some(canvas) = canvas.get() {
            explain.codebook.with(|codebook| draw_tile(&canvas, codebook.tile(token.get())));
        }
    });
    let side = TILE.to_string();
    view! { <canvas class="tile" node_ref=canvas width=side.clone() height=side aria-hidden="true"></canvas> }
}
