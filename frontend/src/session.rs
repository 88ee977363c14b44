//! A generation as this tab stores it, so that a reload loses nothing.

use dalle_shared::{GenerationCreated, GenerationRequest, Seed};
use serde::{Deserialize, Serialize};

use crate::link::Link;
use crate::packing::{pack, unpack};
use crate::place;
use crate::ranking::Ranking;

/// Names images that a link or a file brought.
const OPENED: &str = "opened";

/// A caption and what was asked of the server for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The caption as typed.
    pub caption: String,
    /// The request.
    pub request: GenerationRequest,
    /// The seed of each image, where they do not follow each other; else empty.
    pub seeds: Vec<u64>,
}

impl Prompt {
    /// The link to all its images, without their tokens.
    pub fn link(&self) -> Link {
        let request = &self.request;
        Link {
            caption: self.caption.clone(),
            samples: request.samples,
            best_of: request.best_of,
            seed: request.seed.0,
            seeds: self.seeds.clone(),
            settings: request.sampling(),
            model: request.model.clone(),
            prefix: Some(request.prefix.clone()),
            tokens: Some(Vec::new()),
        }
    }

    /// The seed that samples the image with this index alone.
    pub fn seed_of(&self, image: usize) -> Seed {
        self.seeds.get(image).map_or_else(|| self.request.seed.of_sample(image), |seed| Seed(*seed))
    }
}

/// A generation, on the server or in this browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Where it is.
    pub created: GenerationCreated,
    /// Fragment of the link to all its images, without their tokens. The prompt can be made from it again.
    pub link: String,
    /// When it was asked for (milliseconds since 1970).
    pub asked_at: f64,
    /// When the engine began.
    pub began_at: Option<f64>,
    /// Images that the person prefers to the best, the latest first.
    pub preferred: Vec<usize>,
    /// Its result, once it is finished: from then on the server is not needed.
    pub result: Option<SavedResult>,
}

/// The result of a finished generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedResult {
    /// Seconds from the request to the last token.
    pub seconds: f64,
    /// Tokens per second of the engine.
    pub rate: Option<f64>,
    /// Tokens of each image, as [`packing::pack`](crate::packing::pack) writes them.
    pub tokens: Vec<String>,
    /// Score of each image; empty if there are none.
    pub scores: Vec<f32>,
}

impl Session {
    /// A generation that the server has just accepted.
    pub fn new(created: GenerationCreated, prompt: &Prompt, asked_at: f64) -> Self {
        let link = prompt.link().to_fragment();
        Self { created, link, asked_at, began_at: None, preferred: Vec::new(), result: None }
    }

    /// Images that a link carries, opened at `now`. None if it carries none.
    pub fn of_link(link: &Link, now: f64) -> Option<Self> {
        let tokens = link.tokens.as_ref().filter(|tokens| !tokens.is_empty())?;
        let result = SavedResult {
            seconds: 0.0,
            rate: None,
            tokens: tokens.iter().map(|tokens| pack(tokens)).collect(),
            scores: Vec::new(),
        };
        let created = GenerationCreated { id: OPENED.to_owned(), events: place::events_of(OPENED) };
        let link = link.without_images().to_fragment();
        Some(Self {
            created,
            link,
            asked_at: now,
            began_at: None,
            preferred: Vec::new(),
            result: Some(result),
        })
    }

    /// Whether a link or a file brought it.
    pub fn is_opened(&self) -> bool {
        self.created.id == OPENED
    }

    /// The link to the images that are shown large, with their tokens; None before the generation is finished, or if it cannot be
    /// read.
    pub fn link_to_shown(&self) -> Option<Link> {
        let (link, result) = (Link::from_fragment(&self.link)?, self.result.as_ref()?);
        let ranking = result.ranking(link.samples, &self.preferred);
        let tokens = |image: &usize| Some((*image, unpack(result.tokens.get(*image)?)?));
        Some(link.to_images(ranking.shown().iter().map(tokens).collect::<Option<_>>()?))
    }
}

impl SavedResult {
    /// Which of the images are shown, of a generation that shows `shown`.
    pub fn ranking(&self, shown: usize, preferred: &[usize]) -> Ranking {
        let mut ranking = Ranking::new(self.tokens.len(), shown);
        let tokens: Vec<_> = self.tokens.iter().map(|tokens| unpack(tokens).unwrap_or_default()).collect();
        let length = tokens.first().map_or(0, Vec::len);
        for (image, score) in self.scores.iter().enumerate() {
            ranking.scored(image, length, *score, &tokens);
        }
        preferred.iter().rev().for_each(|image| ranking.prefer(*image));
        ranking
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::ImageToken;

    use super::*;
    use crate::place::Place;

    fn link() -> Link {
        Link::from_fragment("caption=a+fox&n=2&seed=7&best_of=4&model=m").expect("a link")
    }

    #[test]
    fn images_of_a_link_are_a_finished_generation() {
        let tokens = |id: u16| vec![ImageToken(id); 4];
        let opened = link().to_images(vec![(3, tokens(1)), (0, tokens(2))]);
        assert_eq!(Session::of_link(&link(), 1.0), None, "it carries no images");
        let session = Session::of_link(&opened, 1.0).expect("a session");
        assert_eq!(Place::of_events(&session.created.events), Place::Browser);
        assert_eq!(session.link_to_shown(), Some(opened));
        assert!(!session.link.contains("tokens"), "{}", session.link);
    }

    #[test]
    fn the_link_of_a_finished_generation_leads_to_what_is_shown_of_it() {
        let result = SavedResult {
            seconds: 1.0,
            rate: None,
            tokens: (0..4).map(|id| pack(&[ImageToken(id); 4])).collect(),
            scores: vec![0.1, 0.9, 0.2, 0.3],
        };
        let created = GenerationCreated { id: "g".into(), events: "e".into() };
        let session = Session {
            created,
            link: link().to_fragment(),
            asked_at: 1.0,
            began_at: None,
            preferred: vec![2],
            result: Some(result),
        };
        let shown = session.link_to_shown().expect("a link");
        assert_eq!((shown.samples, shown.best_of, shown.seeds), (2, None, vec![9, 8]));
        assert_eq!(Session { result: None, ..session }.link_to_shown(), None);
    }
}
