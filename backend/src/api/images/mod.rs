//! OpenAI's Images API, for existing clients.
//!
//! The server tokenizes the prompt, runs the job in the same batch as others, and decodes the tokens. If the client disconnects, its
//! job is cancelled; with an `Idempotency-Key` it continues for the grace time, so that the client can send the request again.

mod form;
mod generation;
mod picture;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use dalle_shared::files::ENCODER;
use dalle_shared::{ErrorCode, is_blank_caption};

use self::form::Form;
pub use self::form::MAX_FORM;
use self::generation::Generation;
use self::picture::Picture;
use self::request::{ImagesRequest, Prompt};
pub use self::response::TOKENS_IGNORED;
use self::stream::EventNames;
use super::json::JsonBody;
use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::served::ServedModel;

/// Events of streamed responses.
const GENERATION_EVENTS: EventNames = ["image_generation.partial_image", "image_generation.completed"];
const EDIT_EVENTS: EventNames = ["image_edit.partial_image", "image_edit.completed"];
/// Retry-After in seconds when too many forms are being received.
const RETRY_FORM: u64 = 2;

/// `POST /v1/images/generations`: generates the images of a prompt.
pub async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody { value, repeat }: JsonBody<ImagesRequest>,
) -> Result<Response, ErrorResponse> {
    let model = app.model()?;
    let prompt = Prompt::new(&value.prompt, &model)?;
    let wanted = value.check(&model.manifest.geometry)?;
    let generation = Generation::start(&app, model, wanted, prompt, value.seed, Vec::new(), repeat.as_ref())?;
    respond(generation, &headers, GENERATION_EVENTS).await
}

/// `POST /v1/images/edits`: keeps the rows of an image above the transparent part of its mask, and generates the rest for a prompt.
pub async fn edit(State(app): State<Arc<App>>, request: Request) -> Result<Response, ErrorResponse> {
    continue_image(&app, request, Prompt::new, |mask, grid| {
        mask.kept_rows(grid)?.ok_or_else(|| {
            let message = "this model keeps the top rows of an image and generates the rest: expected a mask, or an image, that is \
                transparent from one row down to the bottom";
            ErrorResponse::invalid("mask", message)
        })
    })
    .await
}

/// `POST /v1/images/variations`: keeps the upper half of an image and generates the lower one, without a caption unless one is given.
pub async fn vary(State(app): State<Arc<App>>, request: Request) -> Result<Response, ErrorResponse> {
    let prompt = |prompt: &str, model: &ServedModel| match is_blank_caption(prompt) {
        true => Ok(Prompt::none()),
        false => Prompt::new(prompt, model),
    };
    continue_image(&app, request, prompt, |_, grid| Ok(grid / 2)).await
}

/// Continues the first rows of the image in a form. `kept_rows` says how many rows of tokens are kept, from the mask or the image.
async fn continue_image(
    app: &Arc<App>,
    request: Request,
    prompt: impl FnOnce(&str, &ServedModel) -> Result<Prompt, ErrorResponse>,
    kept_rows: impl FnOnce(&Picture, usize) -> Result<usize, ErrorResponse>,
) -> Result<Response, ErrorResponse> {
    let (model, headers) = (app.model()?, request.headers().clone());
    let geometry = model.manifest.geometry;
    let permit = app.forms.try_acquire().map_err(|_| {
        let message = "the server is receiving other images; try again in a moment";
        ErrorResponse::new(ErrorCode::Busy, message).after(RETRY_FORM)
    })?;
    let Form { request, image, mask, repeat } = Form::read(request).await?;
    if model.manifest.file(ENCODER).is_none() {
        let message = "this model has no encoder, so it cannot continue an image; use /v1/images/generations";
        return Err(ErrorResponse::invalid("image", message));
    }
    let prompt = prompt(&request.prompt, &model)?;
    let wanted = request.check(&geometry)?;
    let decode = move || {
        let image = Picture::decode("image", &image, geometry.image_size)?;
        let mask = mask.map(|mask| Picture::decode("mask", &mask, geometry.image_size)).transpose()?;
        Ok::<_, ErrorResponse>((image, mask))
    };
    let (image, mask) = tokio::task::spawn_blocking(decode).await.map_err(ErrorResponse::internal)??;
    let kept = kept_rows(mask.as_ref().unwrap_or(&image), geometry.grid)? * geometry.grid;
    let mut prefix = Vec::new();
    if kept > 0 {
        prefix = app.engine.encode(image.pixels()).await.map_err(|_| ErrorResponse::stopping())?;
        prefix.truncate(kept);
    }
    drop(permit);
    let generation = Generation::start(app, model, wanted, prompt, request.seed, prefix, repeat.as_ref())?;
    respond(generation, &headers, EDIT_EVENTS).await
}

/// The response in the requested form.
///
/// # Errors
/// The generation fails before the response begins.
async fn respond(
    mut generation: Generation,
    headers: &HeaderMap,
    names: EventNames,
) -> Result<Response, ErrorResponse> {
    let ignored = generation.prompt.ignored.as_ref().map(|(ignored, _)| *ignored);
    let mut response = match generation.wanted.stream {
        Some(partials) => stream::respond(generation, partials, names),
        None => Json(generation.images(headers).await?).into_response(),
    };
    if let Some(ignored) = ignored {
        response.headers_mut().insert(TOKENS_IGNORED, ignored.into());
    }
    Ok(response)
}
