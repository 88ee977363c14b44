//! Explaining an image: its timeline, and what the page shows about the position on it.
//!
//! [`Explain`] holds the signals. Its methods are what a person does and what the workers answer; they return what the workers are
//! to be asked. Everything but the probabilities needs the decoder alone; those need the prior in this browser.

mod branch;
mod picture;
mod studies;

use std::sync::Arc;

use dalle_shared::{
    Attention, Geometry, ImageToken, PriorCommand, PriorReport, SamplingSettings, TokenChoices, TokenStep,
};
use leptos::prelude::*;

use self::branch::Branching;
use self::picture::Picture;
use crate::codebook::Codebook;
use crate::decoder::{DecoderInput, Study, Upload};
use crate::prior::PriorInput;
use crate::schedule::fill;
use crate::stages::Stages;
use crate::subject::Subject;

/// Speeds of the timeline in tokens per second.
pub const SPEEDS: [u32; 4] = [1, 4, 16, 64];
/// Tokens that the probabilities list.
const LISTED: usize = 12;

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
    attending: RwSignal<bool>,
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
    model: RwSignal<Option<(Geometry, bool)>>,
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

    /// Explains an image.
    pub fn open(self, subject: Subject, geometry: Geometry, prior_is_here: bool) -> Vec<Ask> {
        self.model.set(Some((geometry, prior_is_here)));
        self.settings.set(subject.request.sampling());
        self.position.set(subject.tokens.len().saturating_sub(1));
        let subject = Arc::new(subject);
        self.branches.set(vec![Arc::clone(&subject)]);
        self.picture.set(None);
        self.reconstruction.set(None);
        let mut asks = self.show(subject);
        if self.codebook.with_untracked(|codebook| codebook.len() == 0) {
            asks.push(studies::ask_sheet(0, &geometry));
        }
        asks
    }

    /// Shows the images again.
    pub fn close(self) -> Vec<Ask> {
        self.playing.set(None);
        self.presenting.set(false);
        self.subject.set(None);
        self.leave_branch()
    }

    /// Shows an image or a branch of it, at the same position.
    pub fn show(self, subject: Arc<Subject>) -> Vec<Ask> {
        let mut asks = self.leave_branch();
        self.steps.set(Vec::new());
        self.choices.set(None);
        self.attention.set(None);
        self.attending.set(false);
        self.painted.set(None);
        self.stages.set(None);
        self.changed.set(None);
        self.failure.set(None);
        asks.push(Ask::Decoder(DecoderInput::Study(Study::Whole, subject.tokens.clone())));
        if untrack(|| self.has_prior()) {
            let command = PriorCommand::Trace { ticket: subject.ticket.number(), request: subject.reading() };
            asks.push(Ask::Prior(PriorInput::Ask(command)));
        }
        self.subject.set(Some(subject));
        asks.extend(self.refresh());
        asks
    }

    /// Goes to a position.
    pub fn go(self, position: usize) -> Vec<Ask> {
        let last = untrack(|| self.length()).saturating_sub(1);
        self.position.set(position.min(last));
        self.painted.set(None);
        self.refresh()
    }

    /// Whether the newest token is the last one.
    pub fn is_at_end(self) -> bool {
        self.position.get_untracked() + 1 >= untrack(|| self.length())
    }

    /// Asks for what the present position shows.
    fn refresh(self) -> Vec<Ask> {
        let Some(subject) = self.subject.get_untracked() else { return Vec::new() };
        let known = &subject.tokens[..(self.position.get_untracked() + 1).min(subject.tokens.len())];
        let moment = fill(known, untrack(|| self.grid()));
        let mut asks = vec![Ask::Decoder(DecoderInput::Study(Study::Moment(known.len()), moment))];
        asks.extend(self.ask_lens());
        asks
    }

    /// Asks for what the lens on display shows of the present position.
    pub fn ask_lens(self) -> Vec<Ask> {
        match self.lens.get_untracked() {
            Lens::Probabilities | Lens::Attention => self.ask_prior().into_iter().collect(),
            Lens::Decoder => self.ask_stages(),
            Lens::Codebook | Lens::Picture => Vec::new(),
        }
    }

    fn ask_prior(self) -> Option<Ask> {
        let subject = self.subject.get_untracked()?;
        let failed = self.failure.with_untracked(Option::is_some);
        if failed || !untrack(|| self.has_prior()) {
            return None;
        }
        let (ticket, position) = (subject.ticket.number(), self.position.get_untracked());
        let command = match self.lens.get_untracked() {
            Lens::Probabilities => {
                let settings = self.settings.get_untracked();
                PriorCommand::Choices { ticket, position, settings, most: LISTED }
            }
            Lens::Attention if self.attending.get_untracked() => return None,
            Lens::Attention => {
                self.attending.set(true);
                PriorCommand::Attend { ticket, position, layer: self.layer.get_untracked() }
            }
            Lens::Decoder | Lens::Codebook | Lens::Picture => return None,
        };
        Some(Ask::Prior(PriorInput::Ask(command)))
    }

    /// Takes an answer of the prior.
    pub fn explained(self, report: PriorReport) -> Option<Ask> {
        let is_own = |number: u64| {
            self.subject.with_untracked(|own| own.as_ref().is_some_and(|own| own.ticket.number() == number))
        };
        match report {
            PriorReport::Traced { ticket, start, steps } if is_own(ticket) => self.steps.update(|all| {
                if all.len() == start {
                    all.extend(steps);
                }
            }),
            PriorReport::Choices { ticket, position, settings, choices }
                if is_own(ticket) && settings == self.settings.get_untracked() =>
            {
                self.choices.set(Some((position, choices)));
            }
            PriorReport::Attention { ticket, position, layer, attention } if is_own(ticket) => {
                self.attention.set(Some(Arc::new((position, layer, attention))));
                self.attending.set(false);
                // Meanwhile the person may have gone on.
                if (position, layer) != (self.position.get_untracked(), self.layer.get_untracked()) {
                    return self.ask_prior();
                }
            }
            PriorReport::NotTraced { ticket, message } if is_own(ticket) => self.fail(message),
            _ => {}
        }
        None
    }

    /// The prior cannot say more.
    pub fn fail(self, why: String) {
        self.branching.set(None);
        self.attending.set(false);
        if self.subject.with_untracked(Option::is_some) {
            self.failure.set(Some(why));
        }
    }
}
