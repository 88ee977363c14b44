//! The decoder's life on the page: starting it, feeding it what [`Schedule`] says, showing what it draws.

use std::sync::Arc;

use dalle_shared::{
    DecoderCommand, DecoderDevice, DecoderFailure, DecoderPart, DecoderReport, DeviceChoice, ImageToken,
};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::File;

use crate::problem::Problem;
use crate::schedule::{Next, Schedule, fill};
use crate::start::{self, Reading};
use crate::state::{App, DecoderState, Phase, Shown};
use crate::worker_client::WorkerClient;
use crate::{browser, problem};

/// Longest wait for a GPU's first decode, which compiles its shaders. Some drivers never come back.
const GPU_PATIENCE_MS: u32 = 45_000;

/// The worker and its work.
#[derive(Default)]
pub struct Decoding {
    client: Option<WorkerClient>,
    choice: DeviceChoice,
    schedule: Schedule,
    /// Tickets below this belong to a generation no longer on display.
    first_ticket: u64,
    next_ticket: u64,
    in_work: Option<Work>,
    /// A picture to encode and the ticket of its answer, until that comes.
    picture: Option<(u64, File)>,
    resting: bool,
}

/// What the decoder draws.
enum Work {
    /// So many rows of a picture.
    Picture { picture: usize, rows: usize },
    /// What pictures are to begin with.
    Start(Vec<ImageToken>),
}

impl Decoding {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket - 1
    }

    /// Sends a grid of tokens to be drawn.
    fn send(&mut self, work: Work, tokens: Vec<ImageToken>) {
        let ticket = self.ticket();
        self.in_work = Some(work);
        if let Some(client) = &self.client {
            client.send(&DecoderCommand::Decode { ticket, tokens });
        }
    }
}

/// Starts the decoder for the model that the page knows, on the device that the address asks for (`?decoder=`).
pub fn start(app: App) {
    let choice = match browser::query("decoder").as_deref() {
        Some("cpu") => DeviceChoice::Cpu,
        Some("webgpu") => DeviceChoice::Webgpu,
        _ => DeviceChoice::Auto,
    };
    start_on(app, choice);
}

fn start_on(app: App, choice: DeviceChoice) {
    let Some(model) = app.model.get_untracked() else { return };
    app.decoder.set(DecoderState::Waiting);
    let command = DecoderCommand::Load {
        backend: app.backend.get_untracked(),
        files: model.manifest.files.clone(),
        device: choice,
    };
    match WorkerClient::start(move |report, pixels| listen(app, report, pixels)) {
        Ok(client) => {
            client.send(&command);
            app.decoding.update_value(|decoding| {
                decoding.choice = choice;
                decoding.schedule.lost();
                decoding.in_work = None;
                decoding.client = Some(client);
            });
        }
        Err(error) => fail(app, DecoderFailure::Fault, format!("the browser started no worker ({error:?})")),
    }
}

/// Prepares for a new generation.
pub fn expect(app: App, pictures: usize, grid: usize) {
    app.decoding.update_value(|decoding| {
        decoding.schedule = Schedule::new(pictures, grid);
        decoding.first_ticket = decoding.next_ticket;
        // What is in work is for nobody, but it keeps the worker busy until it answers.
        if decoding.in_work.is_some() {
            decoding.schedule.hold();
        }
    });
}

/// Takes note of the tokens that came, and draws.
pub fn tokens_came(app: App) {
    let Some(grid) = grid(app) else { return };
    let rows: Vec<usize> = app.pictures.with_untracked(|pictures| {
        pictures.iter().map(|picture| picture.tokens.with_untracked(|tokens| tokens.len() / grid)).collect()
    });
    app.decoding.update_value(|decoding| {
        for (picture, rows) in rows.into_iter().enumerate() {
            decoding.schedule.complete(picture, rows);
        }
    });
    draw(app);
}

/// Draws other pictures first, because they are the ones that are shown large now.
pub fn shown_changed(app: App) {
    app.decoding.update_value(|decoding| {
        app.ranking.with_untracked(|ranking| decoding.schedule.enlarge(ranking.shown()));
    });
    let settled = app.decoding.with_value(|decoding| decoding.schedule.is_settled());
    if app.phase.get_untracked() == Phase::Finished && !settled {
        app.phase.set(Phase::Drawing);
    }
    draw(app);
}

/// Gives the decoder its next task, if it is idle and there is one.
pub fn draw(app: App) {
    let Some(grid) = grid(app).filter(|_| is_ready(app)) else { return };
    draw_start(app, grid);
    let mut next = Next::Nothing;
    app.decoding.update_value(|decoding| next = decoding.schedule.next(browser::now()));
    match next {
        Next::Draw { picture, rows } => {
            let tokens = app.pictures.with_untracked(|pictures| {
                pictures
                    .get(picture)
                    .map(|picture| picture.tokens.with_untracked(|tokens| fill(tokens, grid)))
            });
            if let Some(tokens) = tokens {
                app.decoding.update_value(|decoding| decoding.send(Work::Picture { picture, rows }, tokens));
            }
        }
        Next::Rest(ms) => rest(app, ms),
        Next::Nothing => {}
    }
}

/// Draws what pictures are to begin with, if that is not on display yet.
fn draw_start(app: App, grid: usize) {
    let start = app.form.start;
    let tokens = start.tokens.get_untracked();
    if tokens.is_empty() || start.shown.with_untracked(Option::is_some) {
        return;
    }
    app.decoding.update_value(|decoding| {
        if !decoding.schedule.is_busy() {
            decoding.schedule.hold();
            let whole = fill(&tokens, grid);
            decoding.send(Work::Start(tokens), whole);
        }
    });
}

/// Turns a picture into the tokens that pictures begin with, as soon as the worker is ready.
pub fn encode(app: App, file: File) {
    app.form.start.reading.set(Some(Reading::Encoding));
    app.decoding.update_value(|decoding| {
        let ticket = decoding.ticket();
        decoding.picture = Some((ticket, file));
    });
    if is_ready(app) {
        send_picture(app);
    }
}

/// No picture is to be encoded any more.
pub fn drop_picture(app: App) {
    app.decoding.update_value(|decoding| decoding.picture = None);
    app.form.start.reading.set(None);
}

fn send_picture(app: App) {
    app.decoding.with_value(|decoding| {
        if let (Some(client), Some((ticket, file))) = (&decoding.client, &decoding.picture) {
            client.send_with(&DecoderCommand::Encode { ticket: *ticket }, file);
        }
    });
}

/// Whether the picture that waits is the one of this ticket.
fn waits_for(app: App, ticket: u64) -> bool {
    app.decoding
        .with_value(|decoding| decoding.picture.as_ref().is_some_and(|(waiting, _)| *waiting == ticket))
}

fn is_ready(app: App) -> bool {
    app.decoder.with_untracked(|state| matches!(state, DecoderState::Ready { .. }))
}

/// Draws again after a while. One alarm at a time is enough: it asks anew.
fn rest(app: App, ms: f64) {
    let mut resting = false;
    app.decoding.update_value(|decoding| resting = std::mem::replace(&mut decoding.resting, true));
    if !resting {
        spawn_local(async move {
            TimeoutFuture::new(ms.ceil() as u32).await;
            app.decoding.update_value(|decoding| decoding.resting = false);
            draw(app);
        });
    }
}

fn listen(app: App, report: DecoderReport, pixels: Vec<u8>) {
    match report {
        DecoderReport::Progress { part: DecoderPart::Encoder, loaded, total } => {
            let fetching = Reading::Fetching { loaded, total };
            let reading = if total == Some(loaded) { Reading::Encoding } else { fetching };
            app.form.start.reading.update(|now| *now = now.map(|_| reading));
        }
        DecoderReport::Progress { part, loaded, total } => {
            app.decoder.set(DecoderState::Loading { part, loaded, total });
        }
        DecoderReport::Starting { device } => {
            if matches!(device, DecoderDevice::Webgpu { .. }) {
                watch(app);
            }
            app.decoder.set(DecoderState::Starting(device));
        }
        DecoderReport::Ready { device, decode_ms } => {
            app.decoder.set(DecoderState::Ready { device, decode_ms });
            if app.phase.get_untracked() == Phase::Failed && all_tokens_came(app) {
                app.phase.set(Phase::Drawing);
            }
            draw(app);
            send_picture(app);
        }
        DecoderReport::Encoded { ticket, tokens } if waits_for(app, ticket) => start::came(app, tokens),
        DecoderReport::NotEncoded { ticket, message } if waits_for(app, ticket) => {
            drop_picture(app);
            app.notice.set(Some(problem::unread(&message)));
        }
        DecoderReport::Encoded { .. } | DecoderReport::NotEncoded { .. } => {}
        DecoderReport::Pixels { ticket, decode_ms } => {
            show(app, ticket, decode_ms, pixels);
            draw(app);
            settle(app);
        }
        DecoderReport::Failed { reason, message } => fail(app, reason, message),
    }
}

fn show(app: App, ticket: u64, decode_ms: f64, rgba: Vec<u8>) {
    let mut drawn = None;
    app.decoding.update_value(|decoding| {
        drawn = decoding.in_work.take();
        match drawn {
            Some(Work::Picture { picture, rows }) if ticket >= decoding.first_ticket => {
                decoding.schedule.drawn(picture, rows, browser::now(), decode_ms);
            }
            Some(Work::Picture { .. }) => {
                decoding.schedule.lost();
                drawn = None;
            }
            Some(Work::Start(_)) => decoding.schedule.lost(),
            None => {}
        }
    });
    match drawn {
        Some(Work::Picture { picture, rows }) => {
            let shown = app
                .pictures
                .with_untracked(|pictures| pictures.get(picture).map(|picture| picture.shown.clone()));
            if let Some(shown) = shown {
                shown.set(Some(Arc::new(Shown { rgba, rows })));
            }
            app.tally.update(|tally| tally.decode_ms = Some(decode_ms));
        }
        Some(Work::Start(tokens)) => {
            let start = app.form.start;
            if let Some(grid) = grid(app).filter(|_| start.tokens.with_untracked(|now| *now == tokens)) {
                start.shown.set(Some(Arc::new(Shown { rgba, rows: tokens.len() / grid })));
            }
        }
        None => {}
    }
}

/// The generation is finished when its last pixels are there, or will never be.
pub fn settle(app: App) {
    if app.phase.get_untracked() != Phase::Drawing {
        return;
    }
    if app.decoding.with_value(|decoding| decoding.schedule.is_settled()) {
        app.phase.set(Phase::Finished);
    } else if app.decoder.with_untracked(|state| matches!(state, DecoderState::Failed(_))) {
        app.phase.set(Phase::Failed);
    }
}

fn watch(app: App) {
    spawn_local(async move {
        TimeoutFuture::new(GPU_PATIENCE_MS).await;
        if app.decoder.with_untracked(|state| matches!(state, DecoderState::Starting(_))) {
            fail(app, DecoderFailure::Gpu, "WebGPU did not finish its first decode".to_owned());
        }
    });
}

/// Ends the worker. A GPU that was our own choice is replaced by the CPU; anything else is the person's to know.
fn fail(app: App, reason: DecoderFailure, message: String) {
    let on_gpu = app.decoder.with_untracked(|state| {
        matches!(
            state,
            DecoderState::Starting(DecoderDevice::Webgpu { .. })
                | DecoderState::Ready { device: DecoderDevice::Webgpu { .. }, .. }
        )
    });
    let mut choice = DeviceChoice::Auto;
    app.decoding.update_value(|decoding| {
        choice = decoding.choice;
        decoding.client = None;
    });
    if choice == DeviceChoice::Auto && (on_gpu || reason == DecoderFailure::Gpu) {
        app.notice.set(Some(format!("Decoding on the processor, because WebGPU failed: {message}.")));
        start_on(app, DeviceChoice::Cpu);
        return;
    }
    app.decoder.set(DecoderState::Failed(Problem::Decoder(reason, message)));
    // A picture may have been too much for it: it is not tried again and again.
    drop_picture(app);
    settle(app);
}

/// Whether the generation on display lacks nothing but pixels.
pub fn all_tokens_came(app: App) -> bool {
    app.tally.with_untracked(|tally| tally.total > 0 && tally.tokens == tally.total)
}

fn grid(app: App) -> Option<usize> {
    app.model.with_untracked(|model| model.as_ref().map(|model| model.manifest.geometry.grid))
}
