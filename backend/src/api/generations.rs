//! `/v1/generations`: create a generation, ask for its state, cancel it.

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

/// `POST /v1/generations`: 201 and the address of the event stream.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<GenerationRequest>,
) -> Result<impl IntoResponse, ErrorResponse> {
    let model = app.model()?;
    let served = &model.manifest.hash;
    if request.model != *served {
        let message = format!(
            "expected the model {served}, which this server serves, got {}; load /v1/model again and use its tokenizer",
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
    let job = app.admit(sampled, scored)?;
    let created = GenerationCreated { id: job.id.clone(), events: events_address(&job) };
    let location = format!("/v1/generations/{}", job.id);
    Ok((StatusCode::CREATED, AppendHeaders([(LOCATION, location)]), Json(created)))
}

/// `GET /v1/generations/{id}`: the state. A client that asks for it in time needs no stream: asking counts as watching.
pub async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<GenerationStatus>, ErrorResponse> {
    let Path(id) = id?;
    let job = find(&app, &id)?;
    job.touch();
    let status = GenerationStatus { id, state: job.log.state(), events: events_address(&job) };
    Ok(Json(status))
}

/// `DELETE /v1/generations/{id}`: 204, also if it has ended already. The engine drops it before its next step.
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
/// 404 if it is unknown or forgotten.
pub fn find(app: &App, id: &str) -> Result<Arc<Job>, ErrorResponse> {
    app.jobs.get(id).ok_or_else(|| {
        let message =
            "there is no such generation: it is too old, or the server was restarted; create it again";
        ErrorResponse::new(ErrorCode::NotFound, message)
    })
}

fn events_address(job: &Job) -> String {
    format!("/v1/generations/{}/events", job.id)
}
