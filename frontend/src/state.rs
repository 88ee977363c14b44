//! What the page knows, as signals. Every component reads [`App`] from the context.

use std::sync::Arc;

use dalle_shared::{
    DecoderDevice, DecoderPart, GenerationRequest, ImageToken, ModelManifest, SamplingSettings, Seed,
    Tokenizer,
};
use leptos::prelude::*;

use crate::decoding::Decoding;
use crate::link::Link;
use crate::problem::Problem;
use crate::ranking::Ranking;
use crate::session::Session;
use crate::start::Start;

/// How many pictures to choose among before the person says otherwise. Of the shipped model's, the best of eight is the right
/// drawing 95 times in 100, a single one 71 times (`docs/experiments.md`).
const BEST_OF: usize = 8;

/// Where the page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the server's description of its model.
    Loading,
    /// Ready.
    Idle,
    /// Sent, but not begun.
    Queued,
    /// Tokens are coming.
    Running,
    /// All tokens are here, not yet all pixels.
    Drawing,
    /// Done.
    Finished,
    /// Stopped by the person, or by the server because nobody listened.
    Cancelled,
    /// Ended by a problem.
    Failed,
}

impl Phase {
    /// Name in the page's `data-state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Running | Self::Drawing => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether there is something to stop.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// The model served, as far as a browser needs it.
#[derive(Debug)]
pub struct Model {
    /// Its description.
    pub manifest: ModelManifest,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// The inputs.
#[derive(Clone, Copy)]
pub struct Form {
    /// The caption as typed.
    pub caption: RwSignal<String>,
    /// Number of pictures.
    pub samples: RwSignal<usize>,
    /// How many to draw, for the best to be shown; None draws no more than are shown.
    pub best_of: RwSignal<Option<usize>>,
    /// The seed as typed.
    pub seed: RwSignal<String>,
    /// Keep the seed for the next generation.
    pub seed_locked: RwSignal<bool>,
    /// Temperature, top-k and top-p as typed; empty means the default.
    pub temperature: RwSignal<String>,
    /// See `temperature`.
    pub top_k: RwSignal<String>,
    /// See `temperature`.
    pub top_p: RwSignal<String>,
    /// What pictures begin with.
    pub start: Start,
}

/// One picture in the making. Its signals are counted, not in the arena: they belong to no component, and go when the next
/// generation takes their place.
#[derive(Clone)]
pub struct Picture {
    /// Its tokens so far.
    pub tokens: ArcRwSignal<Vec<ImageToken>>,
    /// Its pixels so far.
    pub shown: ArcRwSignal<Option<Arc<Shown>>>,
}

/// Pixels of a picture.
#[derive(Debug)]
pub struct Shown {
    /// RGBA, the whole square.
    pub rgba: Vec<u8>,
    /// Rows of tokens that were complete: only these are to be seen.
    pub rows: usize,
}

/// What the pictures on display are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// The caption as typed.
    pub caption: String,
    /// The request.
    pub request: GenerationRequest,
}

/// Numbers of the generation on display.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Tokens received, of all pictures.
    pub tokens: usize,
    /// Tokens expected, of all pictures.
    pub total: usize,
    /// Seconds since it was asked for.
    pub seconds: f64,
    /// Tokens per second of the engine.
    pub rate: Option<f64>,
    /// Milliseconds of the latest decode.
    pub decode_ms: Option<f64>,
}

/// Where the decoder stands.
#[derive(Clone, Debug, PartialEq)]
pub enum DecoderState {
    /// Waiting for the model's description.
    Waiting,
    /// Downloading.
    Loading {
        /// What.
        part: DecoderPart,
        /// Bytes that came.
        loaded: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// Decoding for the first time.
    Starting(DecoderDevice),
    /// Ready.
    Ready {
        /// What it decodes on.
        device: DecoderDevice,
        /// Milliseconds of a decode.
        decode_ms: f64,
    },
    /// Failed.
    Failed(Problem),
}

/// Everything, `Copy`: handles into Leptos' arena.
#[derive(Clone, Copy)]
pub struct App {
    /// Base address of the backend; empty means the page's origin.
    pub backend: RwSignal<String>,
    /// The model, once known.
    pub model: RwSignal<Option<Arc<Model>>>,
    /// The inputs.
    pub form: Form,
    /// Where the page stands.
    pub phase: RwSignal<Phase>,
    /// The connection broke and is being mended.
    pub reconnecting: RwSignal<bool>,
    /// What went wrong with the server or the generation.
    pub problem: RwSignal<Option<Problem>>,
    /// Something worth knowing that is no problem.
    pub notice: RwSignal<Option<String>>,
    /// What is on display.
    pub current: RwSignal<Option<Current>>,
    /// Its pictures, all that are drawn.
    pub pictures: RwSignal<Vec<Picture>>,
    /// Which of them are shown large.
    pub ranking: RwSignal<Ranking>,
    /// Its numbers.
    pub tally: RwSignal<Tally>,
    /// Where the decoder stands.
    pub decoder: RwSignal<DecoderState>,
    /// The decoder itself.
    pub decoding: StoredValue<Decoding, LocalStorage>,
    /// The generation on the server that is on display.
    pub session: StoredValue<Option<Session>>,
    run: StoredValue<u64>,
}

impl App {
    /// A page that knows nothing yet.
    pub fn new() -> Self {
        Self {
            backend: RwSignal::new(String::new()),
            model: RwSignal::new(None),
            form: Form {
                caption: RwSignal::new(String::new()),
                samples: RwSignal::new(1),
                best_of: RwSignal::new(Some(BEST_OF)),
                seed: RwSignal::new(crate::browser::random_seed().to_string()),
                seed_locked: RwSignal::new(false),
                temperature: RwSignal::new(String::new()),
                top_k: RwSignal::new(String::new()),
                top_p: RwSignal::new(String::new()),
                start: Start::new(),
            },
            phase: RwSignal::new(Phase::Loading),
            reconnecting: RwSignal::new(false),
            problem: RwSignal::new(None),
            notice: RwSignal::new(None),
            current: RwSignal::new(None),
            pictures: RwSignal::new(Vec::new()),
            ranking: RwSignal::new(Ranking::default()),
            tally: RwSignal::new(Tally::default()),
            decoder: RwSignal::new(DecoderState::Waiting),
            decoding: StoredValue::new_local(Decoding::default()),
            session: StoredValue::new(None),
            run: StoredValue::new(0),
        }
    }

    /// Begins a new run: whatever an older one still hears of is no longer for it.
    pub fn next_run(self) -> u64 {
        self.run.update_value(|run| *run += 1);
        self.run.get_value()
    }

    /// Whether this run is still the one on display.
    pub fn is_current(self, run: u64) -> bool {
        self.run.get_value() == run
    }

    /// Clears the display for a generation.
    pub fn display(self, current: Current, grid: usize) {
        let drawn = current.request.drawn();
        self.blank(drawn, current.request.samples);
        self.tally.set(Tally { total: drawn * grid * grid, ..Tally::default() });
        self.current.set(Some(current));
        self.problem.set(None);
        self.notice.set(None);
        self.reconnecting.set(false);
        self.phase.set(Phase::Queued);
    }

    /// Places for `drawn` pictures, `shown` of them large.
    pub fn blank(self, drawn: usize, shown: usize) {
        self.ranking.set(Ranking::new(drawn, shown));
        self.pictures.set(
            (0..drawn)
                .map(|_| Picture { tokens: ArcRwSignal::new(Vec::new()), shown: ArcRwSignal::new(None) })
                .collect(),
        );
    }

    /// Shows nothing.
    pub fn clear(self) {
        Session::forget();
        self.session.set_value(None);
        self.current.set(None);
        self.problem.set(None);
        self.phase.set(Phase::Idle);
    }

    /// Ends the generation with a problem.
    pub fn fail(self, problem: Problem) {
        self.reconnecting.set(false);
        self.problem.set(Some(problem));
        self.phase.set(Phase::Failed);
    }

    /// Tokens along a side of a picture, and pixels along a side; the smallest possible as long as no model is known.
    pub fn geometry(self) -> (usize, usize) {
        self.model.with(|model| {
            model
                .as_ref()
                .map_or((1, 8), |model| (model.manifest.geometry.grid, model.manifest.geometry.image_size))
        })
    }

    /// These of the pictures drawn, each with its index.
    pub fn drawn(self, indices: impl Fn(&Ranking) -> &[usize]) -> Vec<(usize, Picture)> {
        self.pictures.with(|pictures| {
            let picture = |&index: &usize| pictures.get(index).map(|picture| (index, picture.clone()));
            self.ranking.with(|ranking| indices(ranking).iter().filter_map(picture).collect())
        })
    }

    /// The link to what is on display.
    pub fn link(self) -> Option<Link> {
        let preferred = self.ranking.with_untracked(|ranking| ranking.preferred().to_vec());
        self.current.with_untracked(|current| {
            current.as_ref().map(|Current { caption, request }| Link::to(caption, request, &preferred))
        })
    }
}

impl Form {
    /// Fills the inputs from a link, all but the beginning, which only the model can judge.
    pub fn restore(self, link: &Link) {
        let show = |value: Option<String>| value.unwrap_or_default();
        let default = SamplingSettings::default().temperature;
        let temperature = link.settings.temperature;
        self.caption.set(link.caption.clone());
        self.samples.set(link.samples);
        self.best_of.set(link.best_of);
        self.seed.set(link.seed.to_string());
        self.seed_locked.set(true);
        self.temperature.set(show((temperature != default).then(|| temperature.to_string())));
        self.top_k.set(show(link.settings.top_k.map(|k| k.to_string())));
        self.top_p.set(show(link.settings.top_p.map(|p| p.to_string())));
    }

    /// How many pictures to draw, if that is more than are shown and the model can choose among them.
    pub fn best_of(self, manifest: &ModelManifest) -> Option<usize> {
        let drawn = self.best_of.get()?.min(manifest.max_rows);
        (manifest.scores && drawn > self.samples.get()).then_some(drawn)
    }

    /// The settings as numbers.
    ///
    /// # Errors
    /// The field that holds no number, or one out of range, in a sentence.
    pub fn settings(self, image_vocab: usize) -> Result<SamplingSettings, String> {
        fn number<T: std::str::FromStr>(text: &str, name: &str) -> Result<Option<T>, String> {
            match text.trim() {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| format!("{name}: “{text}” is not such a number")),
            }
        }
        let default = SamplingSettings::default().temperature;
        let settings = SamplingSettings {
            temperature: number(&self.temperature.get(), "Temperature")?.unwrap_or(default),
            top_k: number(&self.top_k.get(), "Top-k")?,
            top_p: number(&self.top_p.get(), "Top-p")?,
            ..SamplingSettings::default()
        };
        settings.validate(image_vocab).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    /// The seed as a number.
    ///
    /// # Errors
    /// What a seed is.
    pub fn seed(self) -> Result<Seed, String> {
        self.seed.get().trim().parse().map(Seed).map_err(|_| {
            format!("Seed: expected a whole number from 0 to {}", crate::format::count(u64::MAX))
        })
    }
}
