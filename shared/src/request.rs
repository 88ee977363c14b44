//! The request for a generation, and its validation against the model.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Geometry, ImageToken, TextToken};

/// Most images of one request: a 3×3 grid.
pub const MAX_SAMPLES: usize = 9;
/// Largest `best_of` of a request: beyond 32 the paper finds little gain (figure 6).
pub const MAX_BEST_OF: usize = 32;

/// Body of `POST /v1/generations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRequest {
    /// Hash of the model whose tokenizer encoded `text` ([`ModelManifest::hash`](crate::ModelManifest)).
    pub model: String,
    /// The caption's ids without padding, at most [`Geometry::caption_length`].
    pub text: Vec<TextToken>,
    /// Number of images, 1–9.
    #[serde(default = "one")]
    pub samples: usize,
    /// Number of images to sample and to score by CLIP instead, at most 32, so that the client can show the `samples` best. For
    /// models with [`ModelManifest::scores`](crate::ModelManifest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<usize>,
    /// Seed of the first image; each further one has the next seed. The same seed, settings and model give the same tokens.
    #[serde(default)]
    pub seed: Seed,
    /// See [`SamplingSettings::temperature`].
    #[serde(default = "SamplingSettings::default_temperature")]
    pub temperature: f32,
    /// See [`SamplingSettings::top_k`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// See [`SamplingSettings::top_p`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// See [`SamplingSettings::guidance`].
    #[serde(
        default = "SamplingSettings::no_guidance",
        skip_serializing_if = "SamplingSettings::is_no_guidance"
    )]
    pub guidance: f32,
    /// Image tokens that every image begins with, in raster order, at most a whole grid (section 3.3). The events return them
    /// unchanged, before the sampled tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<ImageToken>,
}

fn one() -> usize {
    1
}

/// How the next token is sampled from the logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// Divisor of the logits; 0 takes the most likely token. The paper samples its 12 billion parameters at 1. A small prior at 1
    /// is likely to sample an unfitting token somewhere in an image, see `docs/experiments.md`.
    #[serde(default = "SamplingSettings::default_temperature")]
    pub temperature: f32,
    /// Number of most likely tokens to sample from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Samples from the smallest set of most likely tokens whose total probability reaches this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Scale of classifier-free guidance: 0 ignores the caption, 1 is no guidance, more follows the caption more closely. Any value
    /// but 1 computes every sample twice. For priors trained with caption dropout.
    #[serde(
        default = "SamplingSettings::no_guidance",
        skip_serializing_if = "SamplingSettings::is_no_guidance"
    )]
    pub guidance: f32,
}

impl SamplingSettings {
    fn default_temperature() -> f32 {
        Self::DEFAULT_TEMPERATURE
    }

    fn no_guidance() -> f32 {
        1.0
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    fn is_no_guidance(guidance: &f32) -> bool {
        *guidance == 1.0
    }

    /// Whether the logits without the caption are needed.
    pub fn is_guided(&self) -> bool {
        !Self::is_no_guidance(&self.guidance)
    }

    /// Largest guidance scale.
    pub const MAX_GUIDANCE: f32 = 20.0;

    /// Default temperature.
    pub const DEFAULT_TEMPERATURE: f32 = 0.5;

    /// Largest temperature.
    pub const MAX_TEMPERATURE: f32 = 5.0;

    /// Checks the ranges, for a vocabulary of `image_vocab` tokens.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, image_vocab: usize) -> Result<(), RequestError> {
        if !(0.0..=Self::MAX_TEMPERATURE).contains(&self.temperature) {
            return Err(RequestError::new(
                "temperature",
                format!("expected a number from 0 to {}, got {}", Self::MAX_TEMPERATURE, self.temperature),
            ));
        }
        if let Some(k) = self.top_k
            && !(1..=image_vocab).contains(&k)
        {
            return Err(RequestError::new("top_k", format!("expected 1 to {image_vocab}, got {k}")));
        }
        if let Some(p) = self.top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(RequestError::new("top_p", format!("expected a number above 0, at most 1, got {p}")));
        }
        if !(0.0..=Self::MAX_GUIDANCE).contains(&self.guidance) {
            return Err(RequestError::new(
                "guidance",
                format!("expected a number from 0 to {}, got {}", Self::MAX_GUIDANCE, self.guidance),
            ));
        }
        Ok(())
    }
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self { temperature: Self::DEFAULT_TEMPERATURE, top_k: None, top_p: None, guidance: 1.0 }
    }
}

impl GenerationRequest {
    /// The sampling settings. Their fields are part of the request itself, because serde cannot both flatten and deny unknown
    /// fields.
    pub fn sampling(&self) -> SamplingSettings {
        SamplingSettings {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            guidance: self.guidance,
        }
    }

    /// Number of images to sample: `best_of` if it is set, else `samples`.
    pub fn sample_count(&self) -> usize {
        self.best_of.unwrap_or(self.samples)
    }

    /// Checks every field against the model, except the hash, which the server compares.
    ///
    /// # Errors
    /// The first wrong field, with what was expected and received.
    pub fn validate(&self, geometry: &Geometry) -> Result<(), RequestError> {
        check_text(&self.text, geometry)?;
        if !(1..=MAX_SAMPLES).contains(&self.samples) {
            return Err(RequestError::new(
                "samples",
                format!("expected 1 to {MAX_SAMPLES}, got {}", self.samples),
            ));
        }
        check_best_of(self.samples, self.best_of)?;
        check_prefix(&self.prefix, geometry)?;
        self.sampling().validate(geometry.image_vocab)
    }
}

/// Checks that `best_of` is at least `shown`, the number of images that are shown, and at most [`MAX_BEST_OF`].
///
/// # Errors
/// Names the field `best_of`.
pub fn check_best_of(shown: usize, best_of: Option<usize>) -> Result<(), RequestError> {
    match best_of {
        Some(best_of) if !(shown..=MAX_BEST_OF).contains(&best_of) => Err(RequestError::new(
            "best_of",
            format!("expected {shown} (the images shown) to {MAX_BEST_OF}, got {best_of}"),
        )),
        _ => Ok(()),
    }
}

/// Checks that `text` is a caption of the model: not too long, every id in the vocabulary.
///
/// # Errors
/// Names the field `text`: there are more ids than the caption has slots, or an id is not in the vocabulary.
pub fn check_text(text: &[TextToken], geometry: &Geometry) -> Result<(), RequestError> {
    check_ids("text", text.iter().map(|id| id.0 as usize), geometry.caption_length(), geometry.text_vocab)
}

/// Checks that an image can begin with `prefix`: not larger than the grid, every token in the codebook.
///
/// # Errors
/// Names the field `prefix`: there are more tokens than the grid has cells, or a token is not in the codebook.
pub fn check_prefix(prefix: &[ImageToken], geometry: &Geometry) -> Result<(), RequestError> {
    let tokens = prefix.iter().map(|token| usize::from(token.0));
    check_ids("prefix", tokens, geometry.image_length(), geometry.image_vocab)
}

/// Checks that there are at most `most` ids, all of them below `vocab`.
///
/// # Errors
/// Names `field`: there are more ids, or one is not in the vocabulary.
pub fn check_ids(
    field: &'static str,
    ids: impl ExactSizeIterator<Item = usize>,
    most: usize,
    vocab: usize,
) -> Result<(), RequestError> {
    let got = ids.len();
    if got > most {
        return Err(RequestError::new(field, format!("expected at most {most} ids, got {got}")));
    }
    match ids.enumerate().find(|(_, id)| *id >= vocab) {
        Some((index, id)) => {
            let message = format!("expected ids below {vocab}, got {id} at index {index}");
            Err(RequestError::new(field, message))
        }
        None => Ok(()),
    }
}

/// A field that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RequestError {
    /// Name of the field.
    pub field: &'static str,
    /// What was expected and what was received.
    pub message: String,
}

impl RequestError {
    fn new(field: &'static str, message: String) -> Self {
        Self { field, message }
    }
}

/// Response to `POST /v1/generations` (201).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationCreated {
    /// The generation's id.
    pub id: String,
    /// URL of its event stream, relative to the backend's base URL.
    pub events: String,
}

/// A 64-bit seed. Serialised as a decimal string, because a JavaScript number holds only 53 bits; read from a string or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed with which sample `sample` of a request can be sampled alone.
    #[must_use]
    pub fn of_sample(self, sample: usize) -> Self {
        Self(self.0.wrapping_add(sample as u64))
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedVisitor;
        impl de::Visitor<'_> for SeedVisitor {
            type Value = Seed;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a whole number from 0 to 18446744073709551615, as a number or a string")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Seed, E> {
                value.parse().map(Seed).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(SeedVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 10, grid: 2, image_vocab: 8, image_size: 16 };

    fn request() -> GenerationRequest {
        GenerationRequest {
            model: "m".into(),
            text: vec![TextToken(9)],
            samples: 1,
            seed: Seed(u64::MAX),
            temperature: 1.0,
            top_k: None,
            top_p: None,
            best_of: None,
            guidance: 1.0,
            prefix: Vec::new(),
        }
    }

    #[test]
    fn an_empty_prefix_is_not_serialised() {
        let json = serde_json::to_value(request()).unwrap();
        assert!(json.get("prefix").is_none(), "an older server would refuse the field: {json}");
        let begun = GenerationRequest { prefix: vec![ImageToken(7), ImageToken(0)], ..request() };
        let json = serde_json::to_value(&begun).unwrap();
        assert_eq!(json["prefix"], serde_json::json!([7, 0]));
        assert_eq!(serde_json::from_value::<GenerationRequest>(json).unwrap(), begun);
        let whole = GenerationRequest { prefix: vec![ImageToken(7); 4], ..request() };
        assert_eq!(whole.validate(&GEOMETRY), Ok(()), "a whole image is a prefix too");
    }

    #[test]
    fn seed_survives_json_as_string_and_number() {
        let json = serde_json::to_string(&request()).unwrap();
        assert!(json.contains("\"18446744073709551615\""), "{json}");
        assert_eq!(serde_json::from_str::<GenerationRequest>(&json).unwrap(), request());
        assert_eq!(serde_json::from_str::<Seed>("7").unwrap(), Seed(7));
        for bad in ["-1", "1.5", "\"x\"", "\"18446744073709551616\"", "null"] {
            assert!(serde_json::from_str::<Seed>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_field_out_of_range_is_named() {
        type Spoil = Box<dyn Fn(&mut GenerationRequest)>;
        let cases: [(&str, Spoil); 10] = [
            ("text", Box::new(|r| r.text = vec![TextToken(0); 4])),
            ("text", Box::new(|r| r.text = vec![TextToken(10)])),
            ("samples", Box::new(|r| r.samples = 0)),
            ("samples", Box::new(|r| r.samples = 10)),
            ("temperature", Box::new(|r| r.temperature = f32::NAN)),
            ("temperature", Box::new(|r| r.temperature = -0.1)),
            ("top_k", Box::new(|r| r.top_k = Some(9))),
            ("top_p", Box::new(|r| r.top_p = Some(0.0))),
            ("prefix", Box::new(|r| r.prefix = vec![ImageToken(0); 5])),
            ("prefix", Box::new(|r| r.prefix = vec![ImageToken(7), ImageToken(8)])),
        ];
        assert_eq!(request().validate(&GEOMETRY), Ok(()));
        for (field, spoil) in cases {
            let mut spoilt = request();
            spoil(&mut spoilt);
            assert_eq!(spoilt.validate(&GEOMETRY).unwrap_err().field, field);
        }
    }
}
