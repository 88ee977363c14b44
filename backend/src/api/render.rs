//! Samples as PNG files: decoded by the engine, scaled if another size is requested, with metadata.
//!
//! `GET /v1/generations/{id}/images/{sample}` returns one of a finished generation. Nothing is stored: the image is decoded from the
//! tokens in the generation's log, as long as the server remembers it.

use std::io::Cursor;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use dalle_shared::{
    ErrorCode, GenerationState, ImageMetadata, ImageToken, ModelIdentity, SampleMetadata, Seed,
    write_metadata,
};
use image::imageops::FilterType;
use image::{ImageFormat, RgbImage};
use serde::Deserialize;

use super::generations::find;
use super::reading::LogReader;
use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::jobs::Job;
use crate::served::ServedModel;

/// Largest side of a scaled image in pixels.
const MAX_SIDE: usize = 1024;
/// Sides that a request may name.
const SIDES: std::ops::RangeInclusive<usize> = 16..=8192;

/// Side in pixels of the square image for a requested size: the shorter side of `WIDTHxHEIGHT`, at most 1024, or `own`, the model's,
/// for `auto` or no size.
///
/// # Errors
/// The size has another form.
pub fn side(size: Option<&str>, own: usize) -> Result<usize, ErrorResponse> {
    let Some(size) = size.filter(|size| *size != "auto") else { return Ok(own) };
    let sides =
        size.split_once('x').and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    match sides {
        Some([width, height]) if SIDES.contains(&width) && SIDES.contains(&height) => {
            Ok(width.min(height).min(MAX_SIDE.max(own)))
        }
        _ => {
            let message = format!(
                "expected `auto` or WIDTHxHEIGHT from {} to {} pixels, such as `512x512`, got `{size}`",
                SIDES.start(),
                SIDES.end()
            );
            Err(ErrorResponse::invalid("size", message))
        }
    }
}

/// Tokens of a model whose images have `own` pixels a side, as a PNG of `side` pixels. Only a complete sample has metadata.
///
/// # Errors
/// The engine has stopped, or encoding fails.
pub async fn render(
    app: &App,
    tokens: Vec<ImageToken>,
    [own, side]: [usize; 2],
    metadata: Option<ImageMetadata>,
) -> Result<Vec<u8>, ErrorResponse> {
    let pixels = app.engine.decode(tokens).await.map_err(|_| ErrorResponse::stopping())?;
    // Scaling and encoding take up to a tenth of a second.
    let encode = move || encode(pixels, own, side, metadata.as_ref());
    tokio::task::spawn_blocking(encode).await.map_err(ErrorResponse::internal)?
}

fn encode(
    pixels: Vec<u8>,
    own: usize,
    side: usize,
    metadata: Option<&ImageMetadata>,
) -> Result<Vec<u8>, ErrorResponse> {
    let [own, side] = [own, side].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let mut image = RgbImage::from_raw(own, own, pixels)
        .ok_or_else(|| ErrorResponse::internal("the decoder returned an image of another size"))?;
    if side != own {
        image = image::imageops::resize(&image, side, side, FilterType::CatmullRom);
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).map_err(ErrorResponse::internal)?;
    match metadata {
        Some(metadata) => write_metadata(png.get_ref(), metadata).map_err(ErrorResponse::internal),
        None => Ok(png.into_inner()),
    }
}

/// The metadata of sample `sample` of a job.
pub fn metadata(model: &ServedModel, job: &Job, sample: usize, tokens: &[ImageToken]) -> ImageMetadata {
    let request = &job.request;
    let decoded = || model.tokenizer.decode(&request.text).unwrap_or_default();
    ImageMetadata {
        caption: job.caption.clone().unwrap_or_else(decoded),
        model: ModelIdentity { name: model.manifest.name.clone(), hash: model.manifest.hash.clone() },
        sampling: request.sampling,
        prefix: request.prefix.len(),
        samples: vec![SampleMetadata { seed: Seed(request.seed).of_sample(sample), tokens: tokens.to_vec() }],
    }
}

/// The query of an image.
#[derive(Deserialize)]
pub struct Size {
    size: Option<String>,
}

/// `GET /v1/generations/{id}/images/{sample}`: a sample of a finished generation as a PNG.
pub async fn show(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    size: Result<Query<Size>, QueryRejection>,
) -> Result<impl IntoResponse, ErrorResponse> {
    let (Path((id, sample)), Query(Size { size })) = (path?, size?);
    let model = app.model()?;
    let own = model.manifest.geometry.image_size;
    let side = side(size.as_deref(), own)?;
    let job = find(&app, &id)?;
    let Some(index) = sample.parse().ok().filter(|index| *index < job.request.samples) else {
        let message =
            format!("this generation has the images 0 to {}, not `{sample}`", job.request.samples - 1);
        return Err(ErrorResponse::new(ErrorCode::NotFound, message));
    };
    if job.log.state() != GenerationState::Finished {
        let message = "this generation has not finished, so it has no images yet";
        return Err(ErrorResponse::new(ErrorCode::NotFound, message));
    }
    let mut reader = LogReader::new(&job);
    reader.read()?;
    let tokens = reader.take(index);
    let metadata = metadata(&model, &job, index, &tokens);
    let png = render(&app, tokens, [own, side], Some(metadata)).await?;
    let headers = [(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, "private, max-age=600, immutable")];
    Ok((headers, png))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_openai_is_answered_with_a_square() {
        for (size, expected) in [
            ("auto", 128),
            ("128x128", 128),
            ("256x256", 256),
            ("512x512", 512),
            ("1024x1024", 1024),
            ("1536x1024", 1024),
            ("1024x1536", 1024),
            ("1792x1024", 1024),
            ("1024x1792", 1024),
            ("1536x864", 864),
            ("3840x2160", 1024),
        ] {
            assert_eq!(side(Some(size), 128), Ok(expected), "{size}");
        }
        assert_eq!(side(None, 2048), Ok(2048));
        assert_eq!(side(Some("2048x2048"), 2048), Ok(2048), "the model's own size is never too large");
        for bad in ["", "1024", "1024*1024", "0x0", "-1x5", "15x15", "99999x99999", "1024x", "axb"] {
            assert_eq!(side(Some(bad), 128).unwrap_err().error.field.as_deref(), Some("size"), "{bad}");
        }
    }

    #[test]
    fn the_models_own_size_is_not_scaled() {
        let pixels: Vec<u8> = (0..8 * 8 * 3).collect();
        let own = image::load_from_memory(&encode(pixels.clone(), 8, 8, None).unwrap()).unwrap();
        assert_eq!(own.into_rgb8().into_raw(), pixels);
        let larger = image::load_from_memory(&encode(pixels, 8, 20, None).unwrap()).unwrap();
        assert_eq!((larger.width(), larger.height()), (20, 20));
    }
}
