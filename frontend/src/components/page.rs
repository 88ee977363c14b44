//! The whole page.

use leptos::ev::{focus, hashchange, keydown};
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use super::about::About;
use super::buttons::{Buttons, press_generate, press_stop};
use super::caption::Caption;
use super::explain::ExplainPanel;
use super::gallery::Gallery;
use super::header::Header;
use super::history::Kept;
use super::learned::AllCaptions;
use super::messages::Messages;
use super::pipeline::Pipeline;
use super::progress::Progress;
use super::settings::Settings;
use super::start::StartFrom;
use crate::actions;
use crate::controller::Controller;
use crate::phase::Phase;
use crate::ranking::Ranking;
use crate::startup;
use crate::state::App;

/// The page, with a state and a controller of its own.
#[component]
pub fn Page() -> impl IntoView {
    let app = App::new();
    let controller = Controller::new(app);
    provide_context(controller);

    // Before the first generation the gallery shows how many images there will be.
    Effect::new(move |_| {
        let samples = app.form.samples.get();
        if app.displayed.with(Option::is_none) {
            app.ranking.set(Ranking::new(samples, samples));
            app.blank(samples);
        }
    });
    window_event_listener(keydown, move |event| match event.key().as_str() {
        "Enter" if event.ctrl_key() || event.meta_key() => {
            event.prevent_default();
            press_generate(controller);
        }
        "Escape" => press_stop(controller),
        _ => {}
    });
    // A link pasted into the address bar changes only the fragment, and loads nothing.
    window_event_listener(hashchange, move |_| startup::follow_link(controller));
    // Another tab may have added images to the history.
    window_event_listener(focus, move |_| spawn_local(app.history.load()));
    // The address leads to what is on display.
    Effect::new(move |_| {
        app.link();
        if app.phase.get() == Phase::Finished {
            actions::update_address(app);
        }
    });
    Effect::new(move |_| {
        if app.phase.get() == Phase::Finished {
            untrack(|| actions::finished(controller));
        }
    });
    startup::connect(controller);

    view! {
        <a class="skip" href="#result">"Skip to the images"</a>
        <Header/>
        <main>
            <section class="compose" aria-label="What to generate">
                <Caption/>
                <Buttons/>
                <Messages/>
                <Settings/>
                <AllCaptions/>
                <StartFrom/>
            </section>
            <section class="result" id="result" tabindex="-1" aria-label="Images">
                <Progress/>
                <div class="images" hidden=move || app.explain.subject.with(Option::is_some)>
                    <Gallery/>
                    <Kept/>
                </div>
                <ExplainPanel/>
            </section>
        </main>
        <Pipeline/>
        <About/>
    }
}
