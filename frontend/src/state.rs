//! What the page shows, as signals. Components read [`App`]; [`Controller`](crate::controller::Controller) sets it.

use std::sync::Arc;

use dalle_shared::{Geometry, ImageToken};
use leptos::prelude::*;

use crate::browser;
use crate::decoder::{DecoderState, Upload};
use crate::explain::Explain;
use crate::form::{Inputs, SeedUse};
use crate::generation::{Stage, Tally};
use crate::history::History;
use crate::link::Link;
use crate::model::Model;
use crate::model_card::ModelCard;
use crate::phase::Phase;
use crate::place::Place;
use crate::prior::PriorState;
use crate::problem::Problem;
use crate::ranking::Ranking;
use crate::session::Prompt;
use crate::shown::Shown;
use crate::vocabulary::Known;

/// How many images to choose among before the person says otherwise. With the shipped model, the best of eight is the right
/// drawing 95 times in 100, a single one 71 times (`docs/experiments.md`).
const BEST_OF: usize = 8;

/// Sizes before a model is known: one token.
const NO_GEOMETRY: Geometry =
    Geometry { text_length: 1, text_vocab: 0, grid: 1, image_vocab: 0, image_size: 8 };

/// The inputs.
#[derive(Clone, Copy)]
pub struct Form {
    /// The caption as typed.
    pub caption: RwSignal<String>,
    /// Number of images to show.
    pub samples: RwSignal<usize>,
    /// Number of images to sample, for the best to be shown; None samples no more than are shown.
    pub best_of: RwSignal<Option<usize>>,
    /// The seed as typed.
    pub seed: RwSignal<String>,
    /// Which generations use that seed.
    pub seed_use: RwSignal<SeedUse>,
    /// Temperature as typed; empty means the default.
    pub temperature: RwSignal<String>,
    /// Top-k as typed; empty means off.
    pub top_k: RwSignal<String>,
    /// Top-p as typed; empty means off.
    pub top_p: RwSignal<String>,
    /// What images begin with.
    pub prefix: Prefix,
}

/// What the next images begin with (section 3.3 of the paper): the first rows of an uploaded image, of one sampled before, or
/// of a link.
#[derive(Clone, Copy)]
pub struct Prefix {
    /// Tokens of a whole image, or of its first rows where a link has no more. Empty: images are sampled from scratch.
    pub tokens: RwSignal<Vec<ImageToken>>,
    /// Rows of it that are kept.
    pub rows: RwSignal<usize>,
    /// The only caption that it is for, as typed; None for an upload, which is for any.
    pub caption: RwSignal<Option<String>>,
    /// Its pixels.
    pub shown: RwSignal<Option<Arc<Shown>>>,
    /// An uploaded image that is on its way to tokens.
    pub upload: RwSignal<Option<Upload>>,
}

/// One image of a generation. Its signals are counted, not in the arena: they belong to no component, and go when the next
/// generation takes their place.
#[derive(Clone)]
pub struct Image {
    /// Its tokens so far, in raster order.
    pub tokens: ArcRwSignal<Vec<ImageToken>>,
    /// Its pixels so far.
    pub shown: ArcRwSignal<Option<Arc<Shown>>>,
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
    /// What the model learned, where that is known.
    pub vocabulary: RwSignal<Option<Arc<Known>>>,
    /// What the model card says, where there is one.
    pub model_card: RwSignal<Option<Arc<ModelCard>>>,
    /// The address of the source code, if the page's host names one.
    pub source: RwSignal<Option<String>>,
    /// Where images are sampled.
    pub place: RwSignal<Place>,
    /// Where the prior in this browser stands.
    pub prior: RwSignal<PriorState>,
    /// The explanation of an image.
    pub explain: Explain,
    /// The images that this browser keeps.
    pub history: History,
    /// Where the page stands.
    pub phase: Memo<Phase>,
    /// Where the latest generation stands.
    pub stage: RwSignal<Stage>,
    /// The connection is lost and is being tried again.
    pub reconnecting: RwSignal<bool>,
    /// What went wrong with the server or the generation.
    pub problem: RwSignal<Option<Problem>>,
    /// Something worth knowing that is no problem.
    pub notice: RwSignal<Option<String>>,
    /// What the images on display were asked for.
    pub displayed: RwSignal<Option<Prompt>>,
    /// The images on display, all that are sampled.
    pub images: RwSignal<Vec<Image>>,
    /// Which of them are shown large.
    pub ranking: RwSignal<Ranking>,
    /// Numbers of the latest generation.
    pub tally: RwSignal<Tally>,
    /// Where the decoder stands.
    pub decoder: RwSignal<DecoderState>,
    /// Whether every large image is decoded as far as its tokens are complete.
    pub settled: RwSignal<bool>,
    /// Milliseconds of the latest decode of the images on display.
    pub decode_ms: RwSignal<Option<f64>>,
}

impl App {
    /// A page that knows nothing yet.
    pub fn new() -> Self {
        let model = RwSignal::new(None);
        let stage = RwSignal::new(Stage::default());
        let problem = RwSignal::new(None);
        let decoder = RwSignal::new(DecoderState::default());
        let settled = RwSignal::new(true);
        let phase = Memo::new(move |_| match model.with(Option::is_some) {
            false => Phase::without_model(problem.with(Option::is_some)),
            true => decoder.with(|decoder| Phase::of(stage.get(), settled.get(), decoder)),
        });
        Self {
            backend: RwSignal::new(String::new()),
            model,
            form: Form::new(),
            vocabulary: RwSignal::new(None),
            model_card: RwSignal::new(None),
            source: RwSignal::new(None),
            place: RwSignal::new(Place::Server),
            prior: RwSignal::new(PriorState::Absent),
            explain: Explain::new(),
            history: History::new(),
            phase,
            stage,
            reconnecting: RwSignal::new(false),
            problem,
            notice: RwSignal::new(None),
            displayed: RwSignal::new(None),
            images: RwSignal::new(Vec::new()),
            ranking: RwSignal::new(Ranking::default()),
            tally: RwSignal::new(Tally::default()),
            decoder,
            settled,
            decode_ms: RwSignal::new(None),
        }
    }

    /// Empty images.
    pub fn blank(self, images: usize) {
        let image = |_| Image { tokens: ArcRwSignal::new(Vec::new()), shown: ArcRwSignal::new(None) };
        self.images.set((0..images).map(image).collect());
    }

    /// Sizes of the model; the smallest possible before it is known.
    pub fn geometry(self) -> Geometry {
        self.model.with(|model| model.as_ref().map_or(NO_GEOMETRY, |model| *model.geometry()))
    }

    /// Whether the decoder can decode.
    pub fn decoder_is_ready(self) -> bool {
        self.decoder.with(|state| matches!(state, DecoderState::Ready { .. }))
    }

    /// These of the images on display, each with its index.
    pub fn images_of(self, indices: impl Fn(&Ranking) -> &[usize]) -> Vec<(usize, Image)> {
        self.images.with(|images| {
            let image = |&index: &usize| images.get(index).map(|image| (index, image.clone()));
            self.ranking.with(|ranking| indices(ranking).iter().filter_map(image).collect())
        })
    }

    /// The link to what is on display: with the tokens of the images that are shown large, once they are complete.
    pub fn link(self) -> Option<Link> {
        let link = self.displayed.with(|prompt| prompt.as_ref().map(Prompt::link))?;
        let length = self.geometry().image_length();
        let images = self.images_of(Ranking::shown);
        let tokens = images.into_iter().map(|(index, image)| (index, image.tokens.get()));
        let tokens: Vec<_> = tokens.collect();
        let complete = tokens.iter().all(|(_, tokens)| tokens.len() == length) && !tokens.is_empty();
        Some(if complete { link.to_images(tokens) } else { link })
    }
}

impl Form {
    fn new() -> Self {
        Self {
            caption: RwSignal::new(String::new()),
            samples: RwSignal::new(1),
            best_of: RwSignal::new(Some(BEST_OF)),
            seed: RwSignal::new(browser::random_seed().to_string()),
            seed_use: RwSignal::new(SeedUse::Never),
            temperature: RwSignal::new(String::new()),
            top_k: RwSignal::new(String::new()),
            top_p: RwSignal::new(String::new()),
            prefix: Prefix {
                tokens: RwSignal::new(Vec::new()),
                rows: RwSignal::new(0),
                caption: RwSignal::new(None),
                shown: RwSignal::new(None),
                upload: RwSignal::new(None),
            },
        }
    }

    /// The inputs as typed, without a prefix.
    pub fn inputs(self) -> Inputs {
        Inputs {
            caption: self.caption.get(),
            samples: self.samples.get(),
            best_of: self.best_of.get(),
            seed: self.seed.get(),
            temperature: self.temperature.get(),
            top_k: self.top_k.get(),
            top_p: self.top_p.get(),
            prefix: Vec::new(),
        }
    }

    /// Fills the inputs from a link, all but the prefix, which only the model can check. A link that carries its images does not
    /// say among how many they were chosen.
    pub fn restore(self, link: &Link) {
        let inputs = Inputs::of_link(link);
        self.caption.set(inputs.caption);
        self.samples.set(inputs.samples);
        if !link.has_images() {
            self.best_of.set(inputs.best_of);
        }
        self.seed.set(inputs.seed);
        self.seed_use.set(SeedUse::Next);
        self.temperature.set(inputs.temperature);
        self.top_k.set(inputs.top_k);
        self.top_p.set(inputs.top_p);
    }
}

impl Prefix {
    /// Whether images of this caption begin with it.
    pub fn is_for(self, caption: &str) -> bool {
        self.caption.with(|only| only.as_ref().is_none_or(|only| only.trim() == caption.trim()))
    }

    /// The tokens that are kept of it.
    pub fn kept(self, grid: usize) -> Vec<ImageToken> {
        self.tokens
            .with_untracked(|tokens| tokens[..tokens.len().min(self.rows.get_untracked() * grid)].to_vec())
    }

    /// Most rows that can be kept, so that something is left to sample.
    pub fn most_rows(self, grid: usize) -> usize {
        self.tokens.with(|tokens| tokens.len() / grid).min(grid.saturating_sub(1))
    }
}
