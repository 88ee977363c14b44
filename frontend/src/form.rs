//! What a person typed, checked and turned into a request.

use std::str::FromStr;

use dalle_shared::{GenerationRequest, ImageToken, SamplingSettings, Seed};

use crate::format;
use crate::link::Link;
use crate::model::Model;
use crate::place::Place;
use crate::session::Prompt;

/// The inputs as typed. An empty setting means its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// The caption.
    pub caption: String,
    /// Number of images to show.
    pub samples: usize,
    /// Number of images to sample, for the best to be shown; None samples no more than are shown.
    pub best_of: Option<usize>,
    /// The seed.
    pub seed: String,
    /// Temperature.
    pub temperature: String,
    /// Top-k.
    pub top_k: String,
    /// Top-p.
    pub top_p: String,
    /// The tokens that each image begins with.
    pub prefix: Vec<ImageToken>,
}

/// Which generations use the seed in the form. The others roll a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedUse {
    /// None.
    Never,
    /// The next one: the seed of a link, or one that was rolled.
    Next,
    /// All: the seed was typed or locked.
    Always,
}

impl SeedUse {
    /// At least the next generation.
    #[must_use]
    pub fn or_next(self) -> Self {
        if self == Self::Never { Self::Next } else { self }
    }

    /// After a generation.
    #[must_use]
    pub fn after_use(self) -> Self {
        if self == Self::Next { Self::Never } else { self }
    }
}

/// An input that must change before anything can be generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its element on the page.
    pub id: &'static str,
    /// What was expected and what was entered, in one sentence.
    pub message: String,
}

impl Inputs {
    /// The inputs that a link holds.
    pub fn of_link(link: &Link) -> Self {
        let show = |value: Option<String>| value.unwrap_or_default();
        let temperature = link.settings.temperature;
        let default = SamplingSettings::default().temperature;
        Self {
            caption: link.caption.clone(),
            samples: link.samples,
            best_of: link.best_of,
            seed: link.seed.to_string(),
            temperature: show((temperature != default).then(|| temperature.to_string())),
            top_k: show(link.settings.top_k.map(|k| k.to_string())),
            top_p: show(link.settings.top_p.map(|p| p.to_string())),
            prefix: link.prefix.clone().unwrap_or_default(),
        }
    }

    /// How many images to sample, if that is more than are shown and the model can choose among them.
    pub fn best_of(&self, model: &Model, place: Place) -> Option<usize> {
        let sampled = self.best_of?.min(model.manifest.max_rows);
        (model.scores_at(place) && sampled > self.samples).then_some(sampled)
    }

    /// Every number that cannot be used, for a codebook of `image_vocab` entries.
    pub fn invalid(&self, image_vocab: usize) -> Vec<Invalid> {
        let mut invalid = self.settings(image_vocab).err().unwrap_or_default();
        invalid.extend(self.seed().err());
        invalid
    }

    /// The request, for this model at this place.
    ///
    /// # Errors
    /// The first input that must change.
    pub fn request(&self, model: &Model, place: Place) -> Result<GenerationRequest, Invalid> {
        let refuse = |id, message: &str| Err(Invalid { id, message: message.to_owned() });
        if self.caption.trim().is_empty() {
            return refuse("caption", "Type a caption first, or choose an example.");
        }
        let encoding = match model.tokenizer.encode(&self.caption, model.geometry().caption_length()) {
            Ok(encoding) => encoding,
            Err(error) => return refuse("caption", &format!("Caption: {error}.")),
        };
        let settings =
            self.settings(model.geometry().image_vocab).map_err(|mut invalid| invalid.swap_remove(0))?;
        Ok(GenerationRequest {
            model: model.manifest.hash.clone(),
            text: encoding.ids,
            samples: self.samples,
            best_of: self.best_of(model, place),
            seed: self.seed()?,
            temperature: settings.temperature,
            top_k: settings.top_k,
            top_p: settings.top_p,
            guidance: settings.guidance,
            prefix: self.prefix.clone(),
        })
    }

    /// What a link to finished images was asked for, wherever it was sampled.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn prompt_of(link: &Link, model: &Model) -> Result<Prompt, Invalid> {
        let request = Self::of_link(link).request(model, Place::Browser)?;
        Ok(Prompt {
            caption: link.caption.clone(),
            request: GenerationRequest { best_of: link.best_of, guidance: link.settings.guidance, ..request },
            seeds: link.seeds.clone(),
        })
    }

    fn seed(&self) -> Result<Seed, Invalid> {
        self.seed.trim().parse().map(Seed).map_err(|_| {
            let most = format::count(u64::MAX);
            let message = format!("Seed: expected a whole number from 0 to {most}, got “{}”.", self.seed);
            Invalid { id: "seed", message }
        })
    }

    /// The settings as numbers, or at least one that is invalid.
    fn settings(&self, image_vocab: usize) -> Result<SamplingSettings, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let default = SamplingSettings::default();
        let temperature = number(&self.temperature, "temperature", "Temperature", &mut invalid);
        let settings = SamplingSettings {
            temperature: temperature.unwrap_or(default.temperature),
            top_k: number(&self.top_k, "top-k", "Top-k", &mut invalid),
            top_p: number(&self.top_p, "top-p", "Top-p", &mut invalid),
            ..default
        };
        // Each field alone, so that every one out of range is named.
        for alone in [
            SamplingSettings { temperature: settings.temperature, ..default },
            SamplingSettings { top_k: settings.top_k, ..default },
            SamplingSettings { top_p: settings.top_p, ..default },
        ] {
            if let Err(error) = alone.validate(image_vocab) {
                let (id, name) = element(error.field);
                invalid.push(Invalid { id, message: format!("{name}: {}.", error.message) });
            }
        }
        if invalid.is_empty() { Ok(settings) } else { Err(invalid) }
    }
}

fn number<T: FromStr>(text: &str, id: &'static str, name: &str, invalid: &mut Vec<Invalid>) -> Option<T> {
    let text = text.trim();
    let number = text.parse().ok();
    if number.is_none() && !text.is_empty() {
        invalid.push(Invalid { id, message: format!("{name}: expected a number, got “{text}”.") });
    }
    number
}

/// The element on the page and the label of a field of the request.
fn element(field: &str) -> (&'static str, &'static str) {
    match field {
        "top_k" => ("top-k", "Top-k"),
        "top_p" => ("top-p", "Top-p"),
        _ => ("temperature", "Temperature"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        Inputs { caption: "a fox".into(), samples: 1, seed: "7".into(), ..Inputs::default() }
    }

    #[test]
    fn every_number_that_cannot_be_used_is_named_with_its_element() {
        let ids = |inputs: Inputs| {
            let invalid = inputs.invalid(64);
            for Invalid { message, .. } in &invalid {
                assert!(message.starts_with(char::is_uppercase) && message.ends_with('.'), "{message}");
                assert!(message.contains("expected") && message.contains("got"), "{message}");
            }
            invalid.into_iter().map(|invalid| invalid.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(inputs()), [""; 0]);
        assert_eq!(ids(Inputs { seed: "-1".into(), ..inputs() }), ["seed"]);
        let wrong = Inputs {
            temperature: "warm".into(),
            top_k: "65".into(),
            top_p: "1.5".into(),
            seed: String::new(),
            ..inputs()
        };
        assert_eq!(ids(wrong), ["temperature", "top-k", "top-p", "seed"]);
        assert_eq!(ids(Inputs { temperature: "5.1".into(), ..inputs() }), ["temperature"]);
    }

    #[test]
    fn a_seed_that_was_rolled_is_used_once_and_a_locked_one_always() {
        let rolled = SeedUse::Never.or_next();
        assert_eq!((rolled, rolled.after_use()), (SeedUse::Next, SeedUse::Never));
        let locked = SeedUse::Always.or_next();
        assert_eq!((locked, locked.after_use()), (SeedUse::Always, SeedUse::Always));
    }

    #[test]
    fn the_inputs_of_a_link_are_those_it_was_made_from() {
        let start = crate::packing::pack(&[3, 5, 1023].map(ImageToken));
        let whole = "caption=a+fox&n=4&seed=18446744073709551615&best_of=16&temperature=0.85&top_k=12&top_p=0.9&start=";
        for fragment in [format!("{whole}{start}"), "caption=a+fox&n=1&seed=7".to_owned()] {
            let link = Link::from_fragment(&fragment).expect("a link");
            let inputs = Inputs::of_link(&link);
            assert_eq!(inputs.settings(8_192), Ok(link.settings), "{fragment}");
            assert_eq!(inputs.seed(), Ok(Seed(link.seed)));
            assert_eq!((inputs.samples, inputs.best_of), (link.samples, link.best_of));
            assert_eq!(Some(inputs.prefix), link.prefix);
        }
    }

    #[test]
    fn an_empty_setting_is_its_default() {
        let typed = Inputs { temperature: " 0.9 ".into(), top_k: "5".into(), ..inputs() };
        let settings = typed.settings(64).expect("valid settings");
        assert_eq!((settings.temperature, settings.top_k, settings.top_p), (0.9, Some(5), None));
        assert_eq!(inputs().settings(64), Ok(SamplingSettings::default()));
    }
}
