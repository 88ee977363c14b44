//! `/v1/generations`: creates a generation, returns its state, cancels it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{AppendHeaders, IntoResponse};
use dalle_model::sample::SampleRequest;
use dalle_shared::{ErrorCode, GenerationCreated, GenerationRequest, GenerationStatus};

use super::json::JsonBody;
use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::jobs::Job;

/// `POST /v1/generations`: 201 and the URL of the event stream. With an `Idempotency-Key`, the same request again gets the same
/// generation.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody { value: request, repeat }: JsonBody<GenerationRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    let model = app.model()?;
    let served = &model.manifest.hash;
    if request.model != *served {
        let message = format!(
            "expected {served}, the hash of the served model, got {}; load /v1/model again and use its tokenizer",
            request.model
        );
        let mut response = ErrorResponse::new(ErrorCode::WrongModel, message);
        response.error.field = Some("model".to_owned());
        return Err(response);
    }
    request.validate(&model.manifest.geometry)?;
    let scored = request.best_of.is_some();
    if scored && !model.manifest.scores {
        return Err(ErrorResponse::cannot_score());
    }
    let sampled = SampleRequest {
        sampling: request.sampling(),
        samples: request.sample_count(),
        text: request.text,
        seed: request.seed.0,
        prefix: request.prefix,
    };
    let job = app.once(repeat.as_ref(), || app.admit(sampled, scored, None))?;
    let created = GenerationCreated { id: job.id.clone(), events: events_url(&job) };
    let location = format!("/v1/generations/{}", job.id);
    Ok((StatusCode::CREATED, AppendHeaders([(LOCATION, location)]), Json(created)))
}

/// `GET /v1/generations/{id}`: the state. Polling counts as watching, so a client can poll instead of reading the stream.
pub async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<GenerationStatus>, ErrorResponse> {
    let Path(id) = id?;
    let job = find(&app, &id)?;
    job.touch();
    let before = app.queue.before(&job.id);
    let status = GenerationStatus { id, state: job.log.state(), before, events: events_url(&job) };
    Ok(Json(status))
}

/// `DELETE /v1/generations/{id}`: 204, also if the generation has ended already. The engine drops it before its next step.
pub async fn cancel(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ErrorResponse> {
    find(&app, &id?)?.cancel();
    Ok(StatusCode::NO_CONTENT)
}

/// The job with this id.
///
/// # Errors
/// 404 if there is none, or it has been forgotten.
pub fn find(app: &App, id: &str) -> Result<Arc<Job>, ErrorResponse> {
    app.jobs.get(id).ok_or_else(|| {
        let message =
            "there is no such generation: it has expired, or the server was restarted; create it again";
        ErrorResponse::new(ErrorCode::NotFound, message)
    })
}

fn events_url(job: &Job) -> String {
    format!("/v1/generations/{}/events", job.id)
}
