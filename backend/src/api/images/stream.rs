//! A streamed response of the Images API: partial images, then the images, as OpenAI's server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{AppendHeaders, IntoResponse, Response};
use dalle_shared::Seed;
use futures_util::stream;
use serde::Serialize;

use super::generation::Generation;
use super::response::{Usage, base64, now, square};
use crate::api::error::WireError;
use crate::error_response::ErrorResponse;

/// A comment is sent after this time without an event.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A partial image or an image.
#[derive(Serialize)]
struct ImageEvent {
    #[serde(rename = "type")]
    kind: &'static str,
    b64_json: String,
    background: &'static str,
    created_at: u64,
    output_format: &'static str,
    quality: &'static str,
    size: String,
    /// Number of the image, from 0.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_image_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Seed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revised_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

#[derive(Serialize)]
struct ErrorEvent {
    #[serde(rename = "type")]
    kind: &'static str,
    error: WireError,
}

/// What is sent next.
enum Step {
    Partial { index: usize, image: usize },
    Image(usize),
}

/// The names of the events of a partial image and of an image.
pub type EventNames = [&'static str; 2];

/// Streams a generation, with `partials` partial images of each image. Those of `best_of` have none, because it is decided at the end
/// which samples are shown.
pub fn respond(generation: Generation, partials: usize, names: EventNames) -> Response {
    let images = generation.wanted.images;
    let partials = if generation.wanted.best_of.is_some() { 0 } else { partials };
    let partial_steps =
        (0..partials).flat_map(|index| (0..images).map(move |image| Step::Partial { index, image }));
    let steps: VecDeque<Step> = partial_steps.chain((0..images).map(Step::Image)).collect();
    let events = stream::unfold((generation, steps), move |(mut generation, mut steps)| async move {
        let step = steps.pop_front()?;
        let event = match generation.event(&step, partials, names).await {
            Ok(event) => frame(event.kind, &event),
            Err(response) => {
                steps.clear();
                frame("error", &ErrorEvent { kind: "error", error: response.error.into() })
            }
        };
        Some((Ok::<_, Infallible>(event), (generation, steps)))
    });
    // Without this, nginx buffers events.
    let unbuffered = AppendHeaders([(HeaderName::from_static("x-accel-buffering"), "no")]);
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
}

fn frame(kind: &str, content: &impl Serialize) -> Event {
    let event = Event::default().event(kind).json_data(content);
    event.unwrap_or_else(|error| Event::default().comment(error.to_string()))
}

impl Generation {
    async fn event(
        &mut self,
        step: &Step,
        partials: usize,
        [of_partial, of_image]: EventNames,
    ) -> Result<ImageEvent, ErrorResponse> {
        match *step {
            Step::Partial { index, image } => {
                let count = self.length() * (index + 1) / (partials + 1);
                let png = self.partial(image, count).await?;
                let event = self.image_event(of_partial, image, &png);
                Ok(ImageEvent { partial_image_index: Some(index), ..event })
            }
            Step::Image(image) => {
                let (sample, png) = self.image(image).await?;
                Ok(ImageEvent {
                    usage: Some(self.usage_of_one()),
                    seed: Some(Seed(self.job().request.seed).of_sample(sample)),
                    revised_prompt: self.prompt.ignored.as_ref().map(|(_, read)| read.clone()),
                    warning: self.prompt.warning(),
                    ..self.image_event(of_image, image, &png)
                })
            }
        }
    }

    fn image_event(&self, kind: &'static str, index: usize, png: &[u8]) -> ImageEvent {
        ImageEvent {
            kind,
            b64_json: base64(png),
            background: "opaque",
            created_at: now(),
            output_format: "png",
            quality: "auto",
            size: square(self.wanted.side),
            index,
            partial_image_index: None,
            usage: None,
            seed: None,
            revised_prompt: None,
            warning: None,
        }
    }
}
