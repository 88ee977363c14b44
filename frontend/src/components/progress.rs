//! Status line, progress bar and the two numbers of a run.

use leptos::prelude::*;

use super::status::{self, Situation};
use super::text::text;
use crate::controller::app;
use crate::format;
use crate::phase::Phase;

#[component]
pub fn Progress() -> impl IntoView {
    let app = app();
    let situation = move || Situation {
        phase: app.phase.get(),
        reconnecting: app.reconnecting.get(),
        decoder_ready: app.decoder_is_ready(),
        place: app.place.get(),
        prior: app.prior.get(),
        tally: app.tally.get(),
        shown: app.ranking.with(|ranking| ranking.shown().len()),
        sampled: app.ranking.with(|ranking| ranking.order().len()),
    };
    let line = text(move || status::line(&situation()));
    let said = Memo::new(move |_| status::announcement(&situation()));
    let share = move || app.tally.with(|tally| tally.tokens as f64 / tally.total.max(1) as f64);
    view! {
        <div class="progress-box">
            <p class="status" data-testid="status" data-state=text(move || app.phase.get().name().to_owned())>{line}</p>
            <p class="numbers" class:hidden=move || app.tally.get().seconds == 0.0>
                <span data-testid="elapsed">{text(move || format::seconds(app.tally.get().seconds))}</span>
                <span data-testid="rate">
                    {text(move || app.tally.get().rate.map_or_else(
                        || "– tokens/s".to_owned(),
                        |rate| format!("{} tokens/s", format::rate(rate)),
                    ))}
                </span>
            </p>
            <div
                class="bar"
                class:waiting=move || app.phase.get() == Phase::Queued
                role="progressbar"
                data-testid="progress"
                aria-label="Image tokens"
                aria-valuemin="0"
                aria-valuemax="100"
                aria-valuenow=text(move || format!("{:.0}", share() * 100.0))
            >
                <div class="fill" style:transform=move || format!("scaleX({})", share())></div>
            </div>
            <p class="unseen" role="status">{said}</p>
        </div>
    }
}
