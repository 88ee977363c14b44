//! The signals of an explanation.

use std::sync::Arc;

use dalle_shared::{
    Attention, GenerationRequest, Geometry, ImageToken, SamplingSettings, TokenChoices, TokenStep,
};
use leptos::prelude::*;

use crate::codebook::Codebook;
use crate::decoder::{DecoderInput, Upload};
use crate::log::Log;
use crate::prior::PriorInput;
use crate::stages::Stages;
use crate::subject::{Origin, Subject};
use crate::ticket::Ticket;

/// Speeds of the timeline in tokens per second.
pub const SPEEDS: [u32; 4] = [1, 4, 16, 64];
/// What the colour of a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colouring {
    /// What its code looks like.
    Tiles,
    /// Which code it is: equal codes have equal colours.
    Codes,
    /// How unsure the prior was.
    Surprise,
}

/// What is shown below the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lens {
    /// What could have come at this position.
    Probabilities,
    /// What the layers of the prior attend to.
    Attention,
    /// What the decoder paints after each of its groups, and what one token changes there.
    Decoder,
    /// What the codes look like, and what one of them changes.
    Codebook,
    /// An image of the person's, its tokens, and what the decoder makes of them.
    Picture,
}

/// What the lens of the decoder shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderView {
    /// What the decoder would paint after each of its groups.
    Stages,
    /// What another token at the position on the timeline would change of that.
    Change,
}

/// What a worker is asked.
#[derive(Debug)]
pub enum Ask {
    /// The prior.
    Prior(PriorInput),
    /// The decoder.
    Decoder(DecoderInput),
}

/// An image whose last tokens are missing: RGBA, and the number of tokens that are there.
pub type Moment = (Vec<u8>, usize);

/// A branch that is being sampled.
#[derive(Clone, Debug)]
pub struct Branching {
    pub(super) ticket: Ticket,
    pub(super) request: GenerationRequest,
    pub(super) origin: Origin,
    pub(super) log: Log,
}

/// An image of the person's.
#[derive(Debug)]
pub struct Picture {
    /// The square that was encoded, RGBA.
    pub original: Vec<u8>,
    /// Its tokens, with the caption and the settings of the image that was explained.
    pub subject: Arc<Subject>,
}

/// The signals.
#[derive(Clone, Copy)]
pub struct Explain {
    /// The image that is explained; None while the images are shown.
    pub subject: RwSignal<Option<Arc<Subject>>>,
    /// The image and its branches, in the order in which they were made.
    pub branches: RwSignal<Vec<Arc<Subject>>>,
    /// Raster position on the timeline: this token is the newest.
    pub position: RwSignal<usize>,
    /// The position that a person points at.
    pub pointed: RwSignal<Option<usize>>,
    /// Number of the run of the timeline that plays; None while it stands.
    pub playing: RwSignal<Option<u64>>,
    /// Tokens per second.
    pub speed: RwSignal<u32>,
    /// How the tokens were chosen, as far as the prior has read them again.
    pub steps: RwSignal<Vec<TokenStep>>,
    /// What could have come, and at which position.
    pub choices: RwSignal<Option<(usize, TokenChoices)>>,
    /// What a layer attends to: the position and the layer, and the weights.
    pub attention: RwSignal<Option<Arc<(usize, usize, Attention)>>>,
    /// Whether an answer about attention is on its way: it takes long, so that one is asked for at a time.
    pub(super) attending: RwSignal<bool>,
    /// The layer on display, from 0.
    pub layer: RwSignal<usize>,
    /// The settings of the choices.
    pub settings: RwSignal<SamplingSettings>,
    /// Pixels at the position: RGBA, and the number of tokens that were there.
    pub moment: RwSignal<Option<Arc<Moment>>>,
    /// Pixels of the whole image, RGBA.
    pub whole: RwSignal<Option<Arc<Vec<u8>>>>,
    /// Pixels of the whole image with another token, RGBA.
    pub painted: RwSignal<Option<Arc<Vec<u8>>>>,
    /// What the decoder would paint after each of its groups, and the number of tokens that were there.
    pub stages: RwSignal<Option<Arc<(Stages, usize)>>>,
    /// The same for the whole image with another token at a position.
    pub changed: RwSignal<Option<Arc<(Stages, usize, ImageToken)>>>,
    /// What the lens of the decoder shows.
    pub decoder_view: RwSignal<DecoderView>,
    /// The tiles.
    pub codebook: RwSignal<Codebook>,
    /// The code that a person chose in the codebook.
    pub code: RwSignal<Option<ImageToken>>,
    /// What the colours of the cells say.
    pub colouring: RwSignal<Colouring>,
    /// What is shown below the timeline.
    pub lens: RwSignal<Lens>,
    /// The person's image.
    pub picture: RwSignal<Option<Arc<Picture>>>,
    /// What the decoder makes of its tokens, RGBA.
    pub reconstruction: RwSignal<Option<Arc<Vec<u8>>>>,
    /// Rows of its tokens that the prior keeps.
    pub kept_rows: RwSignal<usize>,
    /// A person's image that is on its way to tokens.
    pub upload: RwSignal<Option<Upload>>,
    /// The branch that is being sampled.
    pub branching: RwSignal<Option<Branching>>,
    /// The lesson on display, from 0.
    pub lesson: RwSignal<Option<usize>>,
    /// Why the prior cannot say more.
    pub failure: RwSignal<Option<String>>,
    /// Whether the explanation fills the screen.
    pub presenting: RwSignal<bool>,
    /// Sizes of the model, and whether its prior runs in this browser.
    pub(super) model: RwSignal<Option<(Geometry, bool)>>,
}

impl Explain {
    /// Nothing is explained.
    pub fn new() -> Self {
        Self {
            subject: RwSignal::new(None),
            branches: RwSignal::new(Vec::new()),
            position: RwSignal::new(0),
            pointed: RwSignal::new(None),
            playing: RwSignal::new(None),
            speed: RwSignal::new(SPEEDS[2]),
            steps: RwSignal::new(Vec::new()),
            choices: RwSignal::new(None),
            attention: RwSignal::new(None),
            attending: RwSignal::new(false),
            layer: RwSignal::new(0),
            settings: RwSignal::new(SamplingSettings::default()),
            moment: RwSignal::new(None),
            whole: RwSignal::new(None),
            painted: RwSignal::new(None),
            stages: RwSignal::new(None),
            changed: RwSignal::new(None),
            decoder_view: RwSignal::new(DecoderView::Stages),
            codebook: RwSignal::new(Codebook::default()),
            code: RwSignal::new(None),
            colouring: RwSignal::new(Colouring::Tiles),
            lens: RwSignal::new(Lens::Probabilities),
            picture: RwSignal::new(None),
            reconstruction: RwSignal::new(None),
            kept_rows: RwSignal::new(1),
            upload: RwSignal::new(None),
            branching: RwSignal::new(None),
            lesson: RwSignal::new(None),
            failure: RwSignal::new(None),
            presenting: RwSignal::new(false),
            model: RwSignal::new(None),
        }
    }

    /// Number of tokens of the image; 0 if there is none.
    pub fn length(self) -> usize {
        self.subject.with(|subject| subject.as_ref().map_or(0, |subject| subject.tokens.len()))
    }

    /// The cell that is highlighted: the one that is pointed at, else the newest.
    pub fn highlighted(self) -> usize {
        self.pointed.get().unwrap_or_else(|| self.position.get())
    }

    /// Whether the prior can say how tokens were chosen.
    pub fn has_prior(self) -> bool {
        self.model.with(|model| model.is_some_and(|(_, here)| here))
    }

    /// The grid's side.
    pub fn grid(self) -> usize {
        self.model.with(|model| model.map_or(1, |(geometry, _)| geometry.grid))
    }

    /// Number of codes.
    pub fn vocab(self) -> usize {
        self.model.with(|model| model.map_or(0, |(geometry, _)| geometry.image_vocab))
    }
}
