//! `POST /v1/images/generations`: OpenAI's Images API, for existing clients.
//!
//! The server tokenizes the prompt, runs the job in the same batch as others, and decodes the tokens. If the client disconnects, its
//! job is cancelled.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dalle_model::clip::best_first;
use dalle_model::sample::SampleRequest;
use dalle_shared::{
    ErrorCode, EventKind, Geometry, ImageToken, MAX_SAMPLES, SamplingSettings, Seed, check_best_of,
};
use image::{ImageFormat, RgbImage};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::json::JsonBody;
use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::jobs::{Job, Viewer};

/// Retry-After in seconds when images were not ready in time.
const RETRY_SLOW: u64 = 30;

/// OpenAI's request, with `seed` and `best_of` in addition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "unused fields are accepted because clients send them")]
pub struct ImagesRequest {
    prompt: String,
    n: Option<usize>,
    size: Option<String>,
    response_format: Option<String>,
    output_format: Option<String>,
    stream: Option<bool>,
    /// Samples this many images, at most 32, and returns the `n` that CLIP scores highest, the best first.
    best_of: Option<usize>,
    /// The same seed, prompt and model give the same images. Random if missing.
    seed: Option<Seed>,
    model: Option<IgnoredAny>,
    quality: Option<IgnoredAny>,
    style: Option<IgnoredAny>,
    user: Option<IgnoredAny>,
    background: Option<IgnoredAny>,
    moderation: Option<IgnoredAny>,
    output_compression: Option<IgnoredAny>,
    partial_images: Option<IgnoredAny>,
}

/// OpenAI's response, and the seed that was used.
#[derive(Serialize)]
pub struct ImagesResponse {
    /// Seconds since 1970.
    created: u64,
    data: Vec<Image>,
    seed: Seed,
}

#[derive(Serialize)]
struct Image {
    /// A PNG file in base64.
    b64_json: String,
}

/// Generates the images of a prompt.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<ImagesRequest>,
) -> Result<Json<ImagesResponse>, ErrorResponse> {
    let model = app.model()?;
    let geometry = model.manifest.geometry;
    check(&request, &geometry)?;
    let text = model.tokenizer.encode(&request.prompt, geometry.caption_length());
    let text = text.map_err(|error| ErrorResponse::invalid("prompt", error.to_string()))?.ids;
    let seed = request.seed.unwrap_or_else(|| Seed(rand::random()));
    let shown = request.n.unwrap_or(1);
    if request.best_of.is_some() && !model.manifest.scores {
        return Err(ErrorResponse::cannot_score());
    }
    let sampled = SampleRequest {
        text,
        samples: request.best_of.unwrap_or(shown),
        seed: seed.0,
        sampling: SamplingSettings::default(),
        prefix: Vec::new(),
    };
    let job = app.admit(sampled, request.best_of.is_some())?;
    let Some(viewer) = job.view() else {
        return Err(ErrorResponse::internal("a new job already has too many viewers"));
    };
    let client = CancelOnDrop(viewer);
    let images = async {
        let mut data = Vec::new();
        for tokens in best_tokens(client.0.job()).await?.into_iter().take(shown) {
            let pixels = app.engine.decode(tokens).await.map_err(|_| ErrorResponse::stopping())?;
            data.push(Image { b64_json: png(pixels, geometry.image_size)? });
        }
        Ok(data)
    };
    let data =
        timeout(app.images_timeout, images).await.unwrap_or_else(|_| Err(too_slow(app.images_timeout)))?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Ok(Json(ImagesResponse { created, data, seed }))
}

/// Cancels a job when dropped. Its client waits for a single response and cannot come back, so there is no grace time.
struct CancelOnDrop(Viewer);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.job().cancel();
    }
}

fn check(request: &ImagesRequest, geometry: &Geometry) -> Result<(), ErrorResponse> {
    if request.prompt.trim().is_empty() {
        return Err(ErrorResponse::invalid("prompt", "expected a description of the image, got none"));
    }
    let n = request.n.unwrap_or(1);
    if !(1..=MAX_SAMPLES).contains(&n) {
        return Err(ErrorResponse::invalid("n", format!("expected 1 to {MAX_SAMPLES}, got {n}")));
    }
    check_best_of(n, request.best_of)?;
    let side = geometry.image_size;
    let size = format!("{side}x{side}");
    one_of("size", request.size.as_deref(), &["auto", &size], "this model makes images of one size")?;
    one_of(
        "response_format",
        request.response_format.as_deref(),
        &["b64_json"],
        "this server does not store images",
    )?;
    one_of("output_format", request.output_format.as_deref(), &["png"], "images are sent as PNG")?;
    if request.stream == Some(true) {
        let message = "expected false: this endpoint does not stream; use POST /v1/generations for that";
        return Err(ErrorResponse::invalid("stream", message));
    }
    Ok(())
}

fn one_of(field: &str, got: Option<&str>, allowed: &[&str], why: &str) -> Result<(), ErrorResponse> {
    match got {
        Some(got) if !allowed.contains(&got) => {
            let allowed: Vec<String> = allowed.iter().map(|value| format!("`{value}`")).collect();
            Err(ErrorResponse::invalid(
                field,
                format!("expected {}, got `{got}`: {why}", allowed.join(" or ")),
            ))
        }
        _ => Ok(()),
    }
}

/// 503: the images were not ready in time. Their job is cancelled.
fn too_slow(limit: Duration) -> ErrorResponse {
    let message = format!(
        "the images were not ready within {} s; request fewer, or use POST /v1/generations, which streams",
        limit.as_secs_f64()
    );
    ErrorResponse::new(ErrorCode::Unavailable, message).after(RETRY_SLOW)
}

/// Waits for the end of the job. Returns the tokens of each sample, best first if they were scored.
async fn best_tokens(job: &Job) -> Result<Vec<Vec<ImageToken>>, ErrorResponse> {
    let mut length = job.log.watch();
    // The job holds the sender, so waiting cannot fail.
    while job.log.ended().is_none() && length.changed().await.is_ok() {}
    let mut rows = vec![Vec::new(); job.request.samples];
    let mut scores = vec![0.0; rows.len()];
    for event in job.log.read(0).0 {
        match event.kind {
            EventKind::Tokens { tokens, .. } => {
                rows.iter_mut().zip(tokens).for_each(|(row, tokens)| row.extend(tokens));
            }
            EventKind::Failed { error } => return Err(error.into()),
            EventKind::Cancelled => {
                return Err(ErrorResponse::new(
                    ErrorCode::Unavailable,
                    "the generation was cancelled; try again",
                ));
            }
            EventKind::Scored { sample, score, .. } => scores[sample] = score,
            EventKind::Started | EventKind::Finished { .. } | EventKind::Unknown => {}
        }
    }
    Ok(best_first(&scores).into_iter().map(|sample| std::mem::take(&mut rows[sample])).collect())
}

fn png(pixels: Vec<u8>, side: usize) -> Result<String, ErrorResponse> {
    let side = u32::try_from(side).map_err(ErrorResponse::internal)?;
    let image = RgbImage::from_raw(side, side, pixels)
        .ok_or_else(|| ErrorResponse::internal("the decoder returned an image of another size"))?;
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(ErrorResponse::internal)?;
    Ok(BASE64.encode(bytes.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry =
        Geometry { text_length: 4, text_vocab: 10, grid: 16, image_vocab: 8, image_size: 128 };

    fn checked(extra: &str) -> Result<(), ErrorResponse> {
        let request = serde_json::from_str(&format!(r#"{{"prompt": "a cat"{extra}}}"#)).unwrap();
        check(&request, &GEOMETRY)
    }

    #[test]
    fn accepts_fields_that_clients_send_and_names_unsupported_values() {
        for fine in [
            "",
            r#", "model": "dall-e-2", "quality": "hd", "style": "vivid", "user": "x", "background": null"#,
            r#", "n": 9, "size": "128x128", "response_format": "b64_json", "seed": "7""#,
            r#", "n": null, "size": "auto", "stream": false, "output_format": "png", "moderation": "low""#,
        ] {
            assert_eq!(checked(fine), Ok(()), "{fine}");
        }
        for (bad, field) in [
            (r#", "n": 0"#, "n"),
            (r#", "n": 10"#, "n"),
            (r#", "n": 3, "best_of": 2"#, "best_of"),
            (r#", "best_of": 33"#, "best_of"),
            (r#", "size": "1024x1024""#, "size"),
            (r#", "response_format": "url""#, "response_format"),
            (r#", "output_format": "jpeg""#, "output_format"),
            (r#", "stream": true"#, "stream"),
        ] {
            assert_eq!(checked(bad).unwrap_err().error.field.as_deref(), Some(field), "{bad}");
        }
        let empty = serde_json::from_str(r#"{"prompt": "  "}"#).unwrap();
        assert_eq!(check(&empty, &GEOMETRY).unwrap_err().error.field.as_deref(), Some("prompt"));
    }
}
