//! Executes what the state machines ask for, and shows where they stand.
//!
//! [`Controller`] holds the machines ([`Generation`], [`Decoder`], [`Prior`]) and the browser's parts that they steer. An input goes to its
//! machine; the effects that come back become requests, timers, messages to the worker, and changes of the [`App`]'s signals.

use std::sync::Arc;

use dalle_shared::{
    DecoderCommand, DeviceChoice, GenerationCreated, ImageToken, PriorCommand, WorkerFailure, WorkerProgram,
    WorkerReport, address,
};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen_futures::spawn_local;
use web_sys::File;

use crate::decoder::{self, Decoder, Study};
use crate::event_stream::EventStream;
use crate::explain::{Ask, Lens};
use crate::generation::{self, Generation};
use crate::model::Model;
use crate::place::{Place, events_of};
use crate::prior::{Prior, PriorEffect, PriorInput};
use crate::ranking::Ranking;
use crate::schedule::fill;
use crate::session::Session;
use crate::shown::Shown;
use crate::state::{App, Image};
use crate::ticket::Ticket;
use crate::worker_client::WorkerClient;
use crate::{api, browser, canvas, storage};

/// The machines, and what they steer.
#[derive(Default)]
struct Parts {
    generation: Option<Generation>,
    decoder: Decoder,
    prior: Prior,
    stream: Option<Stream>,
    prior_worker: Option<WorkerClient>,
    worker: Option<WorkerClient>,
    /// Loads the program for GPUs while the other decodes.
    gpu: Option<WorkerClient>,
    upload: Option<File>,
    upload_use: UploadUse,
}

/// What an upload is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UploadUse {
    /// The next images begin with its first rows.
    #[default]
    Prefix,
    /// It is explained.
    Explain,
}

/// The events that are read.
enum Stream {
    /// Of a generation on the server. Dropping it closes the connection.
    Server(#[expect(dead_code, reason = "kept until it is dropped")] EventStream),
    /// Of one in this browser.
    Browser(Ticket),
}

/// The page's actions. Components get it from the context.
#[derive(Clone, Copy)]
pub struct Controller {
    /// What the page shows.
    pub app: App,
    parts: StoredValue<Parts, LocalStorage>,
}

/// The page's controller, from the context.
pub fn controller() -> Controller {
    expect_context()
}

/// What the page shows, from the context.
pub fn app() -> App {
    controller().app
}

impl Controller {
    /// Controls a page without a model.
    pub fn new(app: App) -> Self {
        Self { app, parts: StoredValue::new_local(Parts::default()) }
    }

    /// The model is known.
    pub fn open(self, model: Arc<Model>) {
        self.parts.update_value(|parts| parts.generation = Some(Generation::new(*model.geometry())));
        let place = storage::place().filter(|place| model.runs_at(*place));
        let default = if model.served { Place::Server } else { Place::Browser };
        self.app.place.set(place.unwrap_or(default));
        self.app.model.set(Some(model));
    }

    /// Something happened to the generation.
    pub fn generation(self, input: generation::GenerationInput) {
        let mut effects = Vec::new();
        self.parts.update_value(|parts| {
            if let Some(generation) = &mut parts.generation {
                effects = generation.on(browser::now(), input);
            }
        });
        effects.into_iter().for_each(|effect| self.execute(effect));
        self.show();
    }

    /// Something happened to the decoder.
    pub fn decoder(self, input: decoder::DecoderInput) {
        self.decoder_with(input, Vec::new());
    }

    /// Uploads an image for the next images to begin with. It goes to the decoder worker and nowhere else.
    pub fn upload(self, file: File) {
        self.encode(file, UploadUse::Prefix);
    }

    /// Uploads an image to be explained beside the one that is. It goes to the decoder worker and nowhere else.
    pub fn upload_to_explain(self, file: File) {
        self.app.explain.lens.set(Lens::Picture);
        self.encode(file, UploadUse::Explain);
    }

    fn encode(self, file: File, upload_use: UploadUse) {
        self.app.notice.set(None);
        self.parts.update_value(|parts| (parts.upload, parts.upload_use) = (Some(file), upload_use));
        self.decoder(decoder::DecoderInput::Upload);
    }

    /// The next images begin with `rows` rows of these tokens, if they have this caption.
    pub fn set_prefix(self, tokens: Vec<ImageToken>, rows: usize, caption: Option<String>) {
        let prefix = self.app.form.prefix;
        prefix.caption.set(caption);
        self.decoder(decoder::DecoderInput::DropUpload);
        prefix.shown.set(None);
        prefix.rows.set(rows);
        prefix.tokens.set(tokens.clone());
        self.decoder(decoder::DecoderInput::Prefix(tokens));
    }

    /// A report of the worker, with pixels if it has some.
    fn decoder_with(self, input: decoder::DecoderInput, pixels: Vec<u8>) {
        let mut effects = Vec::new();
        self.parts.update_value(|parts| effects = parts.decoder.on(browser::now(), input));
        let mut pixels = Some(pixels);
        effects.into_iter().for_each(|effect| self.execute_decoder(effect, &mut pixels));
        self.show();
    }

    fn execute(self, effect: generation::GenerationEffect) {
        use generation::{GenerationEffect, GenerationInput};
        let backend = self.app.backend.get_untracked();
        match effect {
            GenerationEffect::Create(ticket, request) => {
                let here = self.app.place.get_untracked() == Place::Browser;
                spawn_local(async move {
                    let answer = match here {
                        true => Ok(created_here(ticket)),
                        false => api::create(&backend, &request).await,
                    };
                    self.generation(GenerationInput::Created(ticket, answer));
                });
            }
            GenerationEffect::AskPlace(ticket, id) => spawn_local(async move {
                let before = api::place(&backend, &id).await.ok().flatten();
                self.generation(GenerationInput::Place(ticket, before));
            }),
            // What this browser samples ends when its events are closed.
            GenerationEffect::Cancel(id) if Place::of_events(&id) == Place::Browser => {}
            GenerationEffect::Cancel(id) => spawn_local(async move {
                // If the request is lost, the server cancels what is no longer followed after its grace time.
                let _ = api::cancel(&backend, &id).await;
            }),
            GenerationEffect::Open { ticket, events, .. } if Place::of_events(&events) == Place::Browser => {
                self.close();
                self.parts.update_value(|parts| parts.stream = Some(Stream::Browser(ticket)));
                let prompt = self.with_generation(|generation| generation.displayed().cloned()).flatten();
                if let Some(prompt) = prompt {
                    self.prior(PriorInput::Begin(ticket, prompt.request));
                }
            }
            GenerationEffect::Open { ticket, events, after } => {
                let url = address(&backend, &events);
                let stream = EventStream::open(&url, after, move |signal| {
                    self.generation(GenerationInput::Signal(ticket, signal));
                });
                self.parts.update_value(|parts| parts.stream = Some(Stream::Server(stream)));
            }
            GenerationEffect::Close => self.close(),
            GenerationEffect::Wait(ticket, ms) => spawn_local(async move {
                wait(ms).await;
                self.generation(GenerationInput::Elapsed(ticket));
            }),
            GenerationEffect::Store(session) => {
                storage::store(&session);
                if session.result.is_some() {
                    self.show_from_server(&session);
                    self.app.history.keep(session);
                }
            }
            GenerationEffect::Forget => storage::forget(),
            GenerationEffect::Display => self.display(),
            GenerationEffect::ShowTokens => self.show_tokens(),
            GenerationEffect::ShowRanking => {
                let ranking = self.with_generation(|generation| generation.ranking().clone());
                self.app.ranking.set(ranking.unwrap_or_default());
                let large = self.app.ranking.with_untracked(|ranking| ranking.shown().to_vec());
                self.decoder(decoder::DecoderInput::Enlarge(large));
            }
        }
    }

    /// Until the decoder is there, shows the images as the server decodes them. On a slow line that is half a minute earlier.
    fn show_from_server(self, session: &Session) {
        let Session { created, asked_at, .. } = session;
        if self.app.decoder_is_ready() || Place::of_events(&created.events) == Place::Browser {
            return;
        }
        let (backend, grid) = (self.app.backend.get_untracked(), self.app.geometry().grid);
        let (id, key) = (created.id.clone(), *asked_at as u64);
        let images = untrack(|| self.app.images_of(Ranking::shown));
        spawn_local(async move {
            for (index, image) in images {
                // What the server has forgotten, the decoder will show.
                let Ok(png) = api::image(&backend, &id, index).await else { return };
                let Some(rgba) = canvas::pixels_of(&png).await else { return };
                let displayed = self.app.history.current.get_untracked() == Some(key);
                if displayed && !untrack(|| self.app.decoder_is_ready()) {
                    image.shown.set(Some(Arc::new(Shown { rgba, rows: grid })));
                    self.decoder(decoder::DecoderInput::Given { image: index, rows: grid });
                }
            }
        });
    }

    /// Ends reading the events that are read.
    fn close(self) {
        let mut stream = None;
        self.parts.update_value(|parts| stream = parts.stream.take());
        if let Some(Stream::Browser(ticket)) = stream {
            self.prior(PriorInput::Leave(ticket));
        }
    }

    /// Asks the workers for an explanation.
    pub fn ask(self, asks: impl IntoIterator<Item = Ask>) {
        for ask in asks {
            match ask {
                Ask::Prior(input) => self.prior(input),
                Ask::Decoder(input) => self.decoder(input),
            }
        }
    }

    /// Something happened to the prior in this browser.
    fn prior(self, input: PriorInput) {
        let mut effects = Vec::new();
        self.parts.update_value(|parts| effects = parts.prior.on(input));
        for effect in effects {
            match effect {
                PriorEffect::StartWorker(worker) => {
                    let client = self.start_prior(worker);
                    self.parts.update_value(|parts| parts.prior_worker = client);
                }
                PriorEffect::Send(command) => self.parts.with_value(|parts| {
                    if let Some(worker) = &parts.prior_worker {
                        worker.send(&command);
                    }
                }),
                PriorEffect::EndWorker => self.parts.update_value(|parts| parts.prior_worker = None),
                PriorEffect::Signal(ticket, signal) => {
                    if self.app.explain.is_branch(ticket) {
                        self.ask(self.app.explain.branch_signal(signal));
                    } else {
                        self.generation(generation::GenerationInput::Signal(ticket, signal));
                    }
                }
                PriorEffect::Explained(report) => self.ask(self.app.explain.explained(report)),
                PriorEffect::Unexplained(why) => self.app.explain.fail(why),
            }
        }
        self.show();
    }

    fn start_prior(self, worker: u64) -> Option<WorkerClient> {
        let model = self.app.model.get_untracked()?;
        let command = PriorCommand::Load { base: model.base.clone(), files: model.manifest.files.clone() };
        let listen = move |report, _| self.prior(PriorInput::Report { worker, report });
        self.start(WorkerProgram::Prior, &command, listen)
    }

    fn execute_decoder(self, effect: decoder::DecoderEffect, pixels: &mut Option<Vec<u8>>) {
        use decoder::{DecoderEffect, DecoderInput};
        let prefix = self.app.form.prefix;
        let grid = self.app.geometry().grid;
        match effect {
            DecoderEffect::StartWorker { worker, program, choice } => {
                let client = self.start_worker(worker, program, choice);
                self.parts.update_value(|parts| (parts.worker, parts.gpu) = (client, None));
            }
            DecoderEffect::StartGpu { worker } => {
                let client = self.start_worker(worker, WorkerProgram::Webgpu, DeviceChoice::Auto);
                self.parts.update_value(|parts| parts.gpu = client);
            }
            DecoderEffect::UseGpu => self.parts.update_value(|parts| parts.worker = parts.gpu.take()),
            DecoderEffect::EndGpu => self.parts.update_value(|parts| parts.gpu = None),
            DecoderEffect::EndWorker => {
                self.parts.update_value(|parts| (parts.worker, parts.gpu) = (None, None));
            }
            DecoderEffect::DecodeImage { ticket, image } => {
                let tokens = self.with_generation(|generation| generation.tokens().get(image).cloned());
                let tokens = fill(&tokens.flatten().unwrap_or_default(), grid);
                self.send(&DecoderCommand::Decode { ticket, tokens });
            }
            DecoderEffect::DecodePrefix { ticket, tokens } => {
                self.send(&DecoderCommand::Decode { ticket, tokens: fill(&tokens, grid) });
            }
            DecoderEffect::DecodeStudy { ticket, stages: false, tokens } => {
                self.send(&DecoderCommand::Decode { ticket, tokens });
            }
            DecoderEffect::DecodeStudy { ticket, stages: true, tokens } => {
                self.send(&DecoderCommand::Stages { ticket, tokens });
            }
            DecoderEffect::ShowStudy(Study::Kept(key)) => {
                let entry = untrack(|| self.app.history.get(key));
                if let (Some(entry), Some(rgba)) = (entry, pixels.take()) {
                    entry.shown.set(Some(Arc::new(Shown { rgba, rows: grid })));
                }
            }
            DecoderEffect::ShowStudy(study) => {
                self.ask(self.app.explain.decoded(study, pixels.take().unwrap_or_default()));
            }
            DecoderEffect::Encode { ticket } => self.parts.with_value(|parts| {
                if let (Some(worker), Some(file)) = (&parts.worker, &parts.upload) {
                    worker.send_with(&DecoderCommand::Encode { ticket }, file);
                }
            }),
            DecoderEffect::ShowImage { image, rows } => {
                let shown = |images: &Vec<Image>| images.get(image).map(|image| image.shown.clone());
                if let (Some(shown), Some(rgba)) = (self.app.images.with_untracked(shown), pixels.take()) {
                    shown.set(Some(Arc::new(Shown { rgba, rows })));
                }
            }
            DecoderEffect::ShowPrefix => {
                let rows = prefix.tokens.with_untracked(|tokens| tokens.len() / grid);
                prefix.shown.set(pixels.take().map(|rgba| Arc::new(Shown { rgba, rows })));
            }
            DecoderEffect::Encoded(tokens)
                if self.parts.with_value(|parts| parts.upload_use == UploadUse::Explain) =>
            {
                self.ask(self.app.explain.take_picture(tokens, pixels.take().unwrap_or_default()));
            }
            // Half of its rows stay, until the person chooses; the paper keeps 15 of 32.
            DecoderEffect::Encoded(tokens) => self.set_prefix(tokens, (grid / 2).max(1), None),
            DecoderEffect::Wait(timer, ms) => spawn_local(async move {
                wait(ms).await;
                self.decoder(DecoderInput::Elapsed(timer));
            }),
            DecoderEffect::Notice(text) => self.app.notice.set(Some(text)),
        }
    }

    fn start_worker(self, worker: u64, program: WorkerProgram, choice: DeviceChoice) -> Option<WorkerClient> {
        let model = self.app.model.get_untracked()?;
        let command = DecoderCommand::Load {
            base: model.base.clone(),
            files: model.manifest.files.clone(),
            device: choice,
        };
        let listen = move |report, pixels| {
            self.decoder_with(decoder::DecoderInput::Report { worker, report }, pixels);
        };
        self.start(program, &command, listen)
    }

    /// Starts a worker and sends it the first command.
    fn start<R: DeserializeOwned + From<WorkerReport> + 'static>(
        self,
        program: WorkerProgram,
        command: &impl Serialize,
        listen: impl Fn(R, Vec<u8>) + Clone + 'static,
    ) -> Option<WorkerClient> {
        match WorkerClient::start(program, listen.clone()) {
            Ok(client) => {
                client.send(command);
                Some(client)
            }
            Err(error) => {
                let message = format!("the browser started no worker ({error:?})");
                // Later, when the effect that asked for the worker has been executed.
                spawn_local(async move {
                    listen(WorkerReport::Failed { reason: WorkerFailure::Fault, message }.into(), Vec::new());
                });
                None
            }
        }
    }

    fn send(self, command: &DecoderCommand) {
        self.parts.with_value(|parts| {
            if let Some(worker) = &parts.worker {
                worker.send(command);
            }
        });
    }

    /// Shows the empty images of a new generation.
    fn display(self) {
        let Some(prompt) = self.with_generation(|generation| generation.displayed().cloned()) else { return };
        self.ask(self.app.explain.close());
        let images = prompt.as_ref().map_or(0, |prompt| prompt.request.sample_count());
        self.app.blank(images);
        self.app.displayed.set(prompt);
        self.app.history.current.set(None);
        self.app.notice.set(None);
        self.decoder(decoder::DecoderInput::Expect { images, rows: self.app.geometry().grid });
    }

    fn show_tokens(self) {
        let Some(tokens) = self.with_generation(|generation| generation.tokens().to_vec()) else { return };
        let grid = self.app.geometry().grid;
        let rows = tokens.iter().map(|tokens| tokens.len() / grid).collect();
        self.app.images.with_untracked(|images| {
            images.iter().zip(tokens).for_each(|(image, tokens)| image.tokens.set(tokens));
        });
        self.decoder(decoder::DecoderInput::Complete(rows));
    }

    /// Shows where the machines stand.
    fn show(self) {
        let app = self.app;
        self.parts.with_value(|parts| {
            if let Some(generation) = &parts.generation {
                set(app.stage, generation.stage());
                set(app.problem, generation.problem().cloned());
                set(app.reconnecting, generation.is_reconnecting());
                set(app.tally, generation.tally());
            }
            set(app.prior, parts.prior.state());
            set(app.decoder, parts.decoder.state().clone());
            set(app.settled, parts.decoder.is_settled());
            set(app.decode_ms, parts.decoder.decode_ms());
            let upload = |upload_use| parts.decoder.upload().filter(|_| parts.upload_use == upload_use);
            set(app.form.prefix.upload, upload(UploadUse::Prefix));
            set(app.explain.upload, upload(UploadUse::Explain));
        });
    }

    fn with_generation<T>(self, read: impl FnOnce(&Generation) -> T) -> Option<T> {
        self.parts.with_value(|parts| parts.generation.as_ref().map(read))
    }
}

/// What a server would answer to the request for a generation.
fn created_here(ticket: Ticket) -> GenerationCreated {
    let events = events_of(&ticket.number().to_string());
    GenerationCreated { id: events.clone(), events }
}

/// Sets a signal if its value changes.
fn set<T: PartialEq + Send + Sync + 'static>(signal: RwSignal<T>, value: T) {
    if signal.with_untracked(|now| *now != value) {
        signal.set(value);
    }
}

async fn wait(ms: f64) {
    TimeoutFuture::new(ms.ceil().clamp(0.0, f64::from(i32::MAX)) as u32).await;
}
