//! Requests to the Images API, and what of OpenAI's parameters this server does.

use dalle_model::sample::SampleRequest;
use dalle_shared::{
    Geometry, ImageToken, MAX_BEST_OF, SamplingSettings, Seed, TextToken, TokenizerError, check_best_of,
    clean_caption, is_blank_caption,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::render::side;
use crate::error_response::ErrorResponse;
use crate::served::ServedModel;

/// Most images of a request, as OpenAI's API allows.
const MAX_IMAGES: usize = 10;
/// Most partial images of a streamed image.
const MAX_PARTIAL_IMAGES: usize = 3;

/// OpenAI's request, with `seed` and `best_of` in addition.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "unused fields are accepted because clients send them")]
pub struct ImagesRequest {
    pub prompt: String,
    pub n: Option<usize>,
    pub size: Option<String>,
    pub response_format: Option<String>,
    pub output_format: Option<String>,
    pub output_compression: Option<usize>,
    pub stream: Option<bool>,
    pub partial_images: Option<usize>,
    pub quality: Option<String>,
    pub style: Option<String>,
    pub background: Option<String>,
    pub moderation: Option<String>,
    /// Samples this many images, at most 32, and returns the `n` that CLIP scores highest, the best first.
    pub best_of: Option<usize>,
    /// The same seed, prompt and model give the same images. Random if missing.
    pub seed: Option<Seed>,
    pub model: Option<IgnoredAny>,
    pub user: Option<IgnoredAny>,
    pub safety_identifier: Option<IgnoredAny>,
}

/// A valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of images.
    pub images: usize,
    /// Number of images to sample and score instead.
    pub best_of: Option<usize>,
    /// Side of an image in pixels.
    pub side: usize,
    /// Whether images are sent as URLs.
    pub as_url: bool,
    /// Number of partial images, if the response is streamed.
    pub stream: Option<usize>,
}

impl ImagesRequest {
    /// Checks all fields but the prompt.
    ///
    /// # Errors
    /// 400 for the first field that this server does not support.
    pub fn check(&self, geometry: &Geometry) -> Result<Wanted, ErrorResponse> {
        let images = self.n.unwrap_or(1);
        if !(1..=MAX_IMAGES).contains(&images) {
            return Err(ErrorResponse::invalid("n", format!("expected 1 to {MAX_IMAGES}, got {images}")));
        }
        check_best_of(images, self.best_of)?;
        let partials = self.partial_images.unwrap_or(0);
        if partials > MAX_PARTIAL_IMAGES {
            let message = format!("expected 0 to {MAX_PARTIAL_IMAGES}, got {partials}");
            return Err(ErrorResponse::invalid("partial_images", message));
        }
        if self.output_compression.is_some_and(|compression| compression != 100) {
            let message = "expected 100 or nothing: images are sent as PNG, which loses nothing";
            return Err(ErrorResponse::invalid("output_compression", message));
        }
        let stream = (self.stream == Some(true)).then_some(partials);
        let formats: &[&str] = if stream.is_some() { &["b64_json"] } else { &["b64_json", "url"] };
        let qualities = ["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"];
        for (field, got, allowed, why) in [
            ("response_format", &self.response_format, formats, "a stream contains the images themselves"),
            ("output_format", &self.output_format, &["png"], "images are sent as PNG"),
            ("background", &self.background, &["auto", "opaque"], "this model's images have no transparency"),
            ("quality", &self.quality, &qualities, "all have the same effect"),
            ("style", &self.style, &["vivid", "natural"], "both have the same effect"),
            ("moderation", &self.moderation, &["auto", "low"], "both have the same effect"),
        ] {
            one_of(field, got.as_deref(), allowed, why)?;
        }
        Ok(Wanted {
            images,
            best_of: self.best_of,
            side: side(self.size.as_deref(), geometry.image_size)?,
            as_url: self.response_format.as_deref() == Some("url"),
            stream,
        })
    }
}

fn one_of(field: &str, got: Option<&str>, allowed: &[&str], why: &str) -> Result<(), ErrorResponse> {
    match got {
        Some(got) if !allowed.contains(&got) => {
            let allowed: Vec<String> = allowed.iter().map(|value| format!("`{value}`")).collect();
            let message = format!("expected {}, got `{got}`: {why}", allowed.join(" or "));
            Err(ErrorResponse::invalid(field, message))
        }
        _ => Ok(()),
    }
}

/// A prompt as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The caption.
    pub caption: String,
    /// Its ids.
    pub text: Vec<TextToken>,
    /// Number of ids that the model does not read because the caption is too long, and the part that it reads.
    pub ignored: Option<(usize, String)>,
}

impl Prompt {
    /// Tokenizes a prompt.
    ///
    /// # Errors
    /// 400 if it is blank, or cannot be tokenized.
    pub fn new(prompt: &str, model: &ServedModel) -> Result<Self, ErrorResponse> {
        if is_blank_caption(prompt) {
            return Err(ErrorResponse::invalid("prompt", "expected a description of the image, got none"));
        }
        let refused = |error: TokenizerError| ErrorResponse::invalid("prompt", error.to_string());
        let caption = clean_caption(prompt);
        let encoding =
            model.tokenizer.encode(&caption, model.manifest.geometry.caption_length()).map_err(refused)?;
        let ignored = if encoding.cut > 0 {
            Some((encoding.cut, model.tokenizer.decode(&encoding.ids).map_err(refused)?))
        } else {
            None
        };
        Ok(Self { caption, text: encoding.ids, ignored })
    }

    /// No caption at all.
    pub fn none() -> Self {
        Self { caption: String::new(), text: Vec::new(), ignored: None }
    }

    /// What to say about a prompt that is too long.
    pub fn warning(&self) -> Option<String> {
        let (ignored, _) = self.ignored.as_ref()?;
        let read = self.text.len();
        Some(format!(
            "the prompt has {} tokens and this model reads {read}: its last {ignored} are ignored",
            read + ignored
        ))
    }
}

/// What to sample for a request.
pub fn sample_request(
    wanted: &Wanted,
    prompt: &Prompt,
    seed: Seed,
    prefix: Vec<ImageToken>,
) -> SampleRequest {
    SampleRequest {
        text: prompt.text.clone(),
        samples: wanted.best_of.unwrap_or(wanted.images),
        seed: seed.0,
        sampling: SamplingSettings::default(),
        prefix,
    }
}

// A request with `best_of` must be able to return all images.
const _: () = assert!(MAX_IMAGES <= MAX_BEST_OF);

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 10, grid: 16, image_vocab: 8, image_size: 128 };

    fn checked(extra: &str) -> Result<Wanted, ErrorResponse> {
        let request: ImagesRequest =
            serde_json::from_str(&format!(r#"{{"prompt": "a cat"{extra}}}"#)).unwrap();
        request.check(&GEOMETRY)
    }

    #[test]
    fn accepts_fields_that_clients_send_and_names_unsupported_values() {
        for fine in [
            "",
            r#", "model": "dall-e-2", "quality": "hd", "style": "vivid", "user": "x", "background": null"#,
            r#", "n": 10, "size": "128x128", "response_format": "b64_json", "seed": "7""#,
            r#", "n": null, "size": "auto", "stream": false, "output_format": "png", "moderation": "low""#,
            r#", "size": "1024x1024", "response_format": "url", "background": "opaque""#,
            r#", "stream": true, "partial_images": 3, "output_compression": 100, "safety_identifier": "x""#,
        ] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for (bad, field) in [
            (r#", "n": 0"#, "n"),
            (r#", "n": 11"#, "n"),
            (r#", "n": 3, "best_of": 2"#, "best_of"),
            (r#", "best_of": 33"#, "best_of"),
            (r#", "size": "large""#, "size"),
            (r#", "response_format": "file""#, "response_format"),
            (r#", "response_format": "url", "stream": true"#, "response_format"),
            (r#", "output_format": "jpeg""#, "output_format"),
            (r#", "output_compression": 50"#, "output_compression"),
            (r#", "partial_images": 4"#, "partial_images"),
            (r#", "background": "transparent""#, "background"),
            (r#", "quality": "best""#, "quality"),
            (r#", "style": "oil""#, "style"),
            (r#", "moderation": "none""#, "moderation"),
        ] {
            assert_eq!(checked(bad).unwrap_err().error.field.as_deref(), Some(field), "{bad}");
        }
    }
}
