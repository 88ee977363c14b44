//! A generation from the press of the button to its last token.

use dalle_shared::GenerationRequest;
use futures_channel::mpsc::unbounded;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::event_stream::{EventStream, Signal};
use crate::log::{Change, Log, LogError};
use crate::problem::Problem;
use crate::reconnect::Reconnect;
use crate::session::Session;
use crate::state::{App, Current, Model, Phase};
use crate::{api, browser, decoding};

/// A stream silent for longer is broken: the server sends a comment every 10 seconds.
const SILENCE_MS: u32 = 30_000;
/// How often the clock on display moves.
const TICK_MS: u32 = 100;

/// Asks for what the form says.
///
/// # Errors
/// The input that must change first, in a sentence.
pub fn generate(app: App) -> Result<(), String> {
    let Some(model) = app.model.get_untracked() else { return Ok(()) };
    let geometry = &model.manifest.geometry;
    let caption = app.form.caption.get_untracked();
    if caption.trim().is_empty() {
        return Err("Type a caption first, or choose an example.".to_owned());
    }
    let encoding = model
        .tokenizer
        .encode(&caption, geometry.caption_length())
        .map_err(|error| format!("Caption: {error}"))?;
    let settings = untrack(|| app.form.settings(geometry.image_vocab))?;
    if !app.form.seed_locked.get_untracked() {
        app.form.seed.set(browser::random_seed().to_string());
    }
    if app.form.start.reading.with_untracked(Option::is_some) {
        return Err("The picture to start from is not read yet. Wait a moment, or remove it.".to_owned());
    }
    let request = GenerationRequest {
        model: model.manifest.hash.clone(),
        text: encoding.ids,
        samples: app.form.samples.get_untracked(),
        best_of: untrack(|| app.form.best_of(&model.manifest)),
        seed: untrack(|| app.form.seed())?,
        temperature: settings.temperature,
        top_k: settings.top_k,
        top_p: settings.top_p,
        guidance: settings.guidance,
        prefix: app.form.start.prefix(geometry.grid),
    };
    begin(app, &model, Current { caption, request });
    Ok(())
}

/// Asks for what is on display once more.
pub fn again(app: App) {
    if let (Some(model), Some(mut current)) = (app.model.get_untracked(), app.current.get_untracked()) {
        // The tokenizer on display is that of the present model.
        current.request.model.clone_from(&model.manifest.hash);
        begin(app, &model, current);
    }
}

fn begin(app: App, model: &Model, current: Current) {
    let run = prepare(app, model, current.clone());
    spawn_local(async move { ask(app, run, current).await });
}

/// Clears the display for a generation, and names the run.
fn prepare(app: App, model: &Model, current: Current) -> u64 {
    let run = app.next_run();
    let grid = model.manifest.geometry.grid;
    decoding::expect(app, current.request.drawn(), grid);
    app.session.set_value(None);
    app.display(current, grid);
    decoding::shown_changed(app);
    if let Some(link) = app.link() {
        browser::set_fragment(&link.to_fragment());
    }
    run
}

async fn ask(app: App, run: u64, current: Current) {
    let asked_at = browser::now();
    let backend = app.backend.get_untracked();
    loop {
        let answer = api::create(&backend, &current.request).await;
        if !app.is_current(run) {
            // Stopped meanwhile: nobody waits for it.
            if let Ok(created) = answer {
                let _ = api::cancel(&backend, &created.id).await;
            }
            return;
        }
        match answer {
            Ok(created) => {
                let Current { caption, request } = current;
                let session = Session {
                    created,
                    caption,
                    request,
                    asked_at,
                    began_at: None,
                    took: None,
                    preferred: Vec::new(),
                };
                return follow(app, run, session).await;
            }
            Err(Problem::Busy { retry_at }) => {
                app.fail(Problem::Busy { retry_at });
                TimeoutFuture::new((retry_at - browser::now()).max(0.0) as u32).await;
                if !app.is_current(run) {
                    return;
                }
                app.problem.set(None);
                app.phase.set(Phase::Queued);
            }
            Err(problem) => return app.fail(problem),
        }
    }
}

/// Follows the generation that this tab followed before it was reloaded.
pub fn resume(app: App, session: Session) {
    let Some(model) = app.model.get_untracked() else { return };
    let current = Current { caption: session.caption.clone(), request: session.request.clone() };
    let run = prepare(app, &model, current);
    app.ranking.update(|ranking| session.preferred.iter().rev().for_each(|&picture| ranking.prefer(picture)));
    spawn_local(async move { follow(app, run, session).await });
}

/// Shows a picture large that the person prefers, or no longer.
pub fn prefer(app: App, picture: usize) {
    app.ranking.update(|ranking| ranking.prefer(picture));
    decoding::shown_changed(app);
    app.session.update_value(|session| {
        if let Some(session) = session {
            session.preferred = app.ranking.with_untracked(|ranking| ranking.preferred().to_vec());
            session.keep();
        }
    });
}

/// Follows the generation on display after the connection was lost, or asks for it anew if the server forgot it.
pub fn reconnect(app: App) {
    let Some(session) = app.session.get_value() else { return again(app) };
    let run = app.next_run();
    app.problem.set(None);
    app.phase.set(Phase::Queued);
    spawn_local(async move {
        let answer = api::exists(&app.backend.get_untracked(), &session.created.id).await;
        match answer {
            _ if !app.is_current(run) => {}
            Ok(()) => resume(app, session),
            Err(Problem::Gone) => again(app),
            Err(problem) => app.fail(match problem {
                Problem::NoServer => Problem::LostConnection,
                other => other,
            }),
        }
    });
}

/// Stops the generation on display.
pub fn stop(app: App) {
    app.next_run();
    app.reconnecting.set(false);
    app.problem.set(None);
    app.phase.set(Phase::Cancelled);
    Session::forget();
    if let Some(session) = app.session.get_value() {
        app.session.set_value(None);
        spawn_local(async move {
            // A server that cannot be told cancels by itself when nobody listens.
            let _ = api::cancel(&app.backend.get_untracked(), &session.created.id).await;
        });
    }
}

async fn follow(app: App, run: u64, mut session: Session) {
    let Some(model) = app.model.get_untracked() else { return };
    keep(app, &session);
    spawn_local(tick(app, run));
    let mut log = Log::new(session.request.drawn(), &model.manifest.geometry);
    let mut reconnect = Reconnect::default();
    loop {
        let end = read(app, run, &mut session, &mut log, &mut reconnect).await;
        if !app.is_current(run) {
            return;
        }
        let wait = match end {
            End::Over => return,
            End::Early | End::Refused(Problem::Busy { .. }) => reconnect.ended(),
            End::Refused(Problem::NoServer | Problem::Unavailable) => reconnect.unanswered(browser::now()),
            // An old picture is no loss worth a message: its link is in the address.
            End::Refused(Problem::Gone) if session.took.is_some() => return app.clear(),
            End::Refused(problem) => return app.fail(problem),
        };
        let Some(wait) = wait else { return app.fail(Problem::LostConnection) };
        app.reconnecting.set(reconnect.is_unanswered());
        TimeoutFuture::new(wait as u32).await;
        if !app.is_current(run) {
            return;
        }
    }
}

/// Why reading a stream ended.
enum End {
    /// The generation is over, or no longer on display.
    Over,
    /// The connection broke or is silent, or events are missing.
    Early,
    /// The server did not open the stream, or sent what does not fit.
    Refused(Problem),
}

async fn read(
    app: App,
    run: u64,
    session: &mut Session,
    log: &mut Log,
    reconnect: &mut Reconnect,
) -> End {
    let (sender, mut signals) = unbounded();
    let backend = app.backend.get_untracked();
    // Dropping it ends the connection.
    let _stream = EventStream::open(&backend, &session.created.events, log.last(), move |signal| {
        let _ = sender.unbounded_send(signal);
    });
    loop {
        let signal = match select(signals.next(), TimeoutFuture::new(SILENCE_MS)).await {
            Either::Left((Some(signal), _)) => signal,
            Either::Left((None, _)) | Either::Right(_) => return End::Early,
        };
        if !app.is_current(run) {
            return End::Over;
        }
        let event = match signal {
            Signal::Opened => {
                reconnect.opened();
                app.reconnecting.set(false);
                continue;
            }
            Signal::Alive => continue,
            Signal::Event(Ok(event)) => event,
            Signal::Event(Err(how)) => return End::Refused(Problem::Misunderstood(how)),
            Signal::Closed(Ok(())) => return End::Early,
            Signal::Closed(Err(problem)) => return End::Refused(problem),
        };
        match log.apply(event) {
            Ok(change) => {
                if change != Change::Repeat {
                    reconnect.progressed();
                }
                if take(app, session, log, change) {
                    return End::Over;
                }
            }
            Err(LogError::Gap) => return End::Early,
            Err(LogError::Malformed(how)) => return End::Refused(Problem::Misunderstood(how)),
        }
    }
}

/// Puts a change on display. Returns whether it was the last.
fn take(app: App, session: &mut Session, log: &Log, change: Change) -> bool {
    match change {
        Change::Repeat | Change::Ignored => false,
        Change::Started => {
            if session.began_at.is_none() {
                session.began_at = Some(browser::now());
                keep(app, session);
            }
            app.phase.set(Phase::Running);
            false
        }
        Change::Tokens => {
            app.pictures.with_untracked(|pictures| {
                for (picture, tokens) in pictures.iter().zip(log.tokens()) {
                    picture.tokens.set(tokens.clone());
                }
            });
            app.tally.update(|tally| tally.tokens = log.received());
            decoding::tokens_came(app);
            false
        }
        Change::Scored { sample, tokens, score } => {
            app.ranking.update(|ranking| ranking.scored(sample, tokens, score));
            decoding::shown_changed(app);
            false
        }
        Change::Finished { seconds } => {
            if session.took.is_none() {
                session.took = Some((browser::now() - session.asked_at) / 1e3);
                keep(app, session);
            }
            app.tally.update(|tally| {
                tally.rate = (seconds > 0.0).then(|| tally.total as f64 / seconds);
            });
            app.phase.set(Phase::Drawing);
            decoding::settle(app);
            true
        }
        Change::Cancelled => {
            Session::forget();
            app.phase.set(Phase::Cancelled);
            true
        }
        Change::Failed(error) => {
            Session::forget();
            app.fail(Problem::EngineFailed(error.message));
            true
        }
    }
}

fn keep(app: App, session: &Session) {
    session.keep();
    app.session.set_value(Some(session.clone()));
}

/// Moves the clock while the generation runs.
async fn tick(app: App, run: u64) {
    while app.is_current(run)
        && matches!(app.phase.get_untracked(), Phase::Queued | Phase::Running | Phase::Drawing)
    {
        let Some(session) = app.session.get_value() else { return };
        let now = browser::now();
        app.tally.update(|tally| {
            tally.seconds = session.took.unwrap_or((now - session.asked_at) / 1e3);
            if let Some(began) = session.began_at.filter(|began| now - began > 300.0)
                && app.phase.get_untracked() == Phase::Running
            {
                tally.rate = Some(tally.tokens as f64 / (now - began) * 1e3);
            }
        });
        TimeoutFuture::new(TICK_MS).await;
    }
}
