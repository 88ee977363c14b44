//! `/v1/models`: OpenAI's list of models, which has one entry here. Many clients look a model up before they use it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use dalle_shared::ErrorCode;
use serde::Serialize;

use crate::admission::App;
use crate::error_response::ErrorResponse;
use crate::served::ServedModel;

/// A list of models.
#[derive(Serialize)]
pub struct ModelList {
    object: &'static str,
    data: [ModelEntry; 1],
}

/// A model.
#[derive(Serialize)]
pub struct ModelEntry {
    id: String,
    object: &'static str,
    /// Seconds since 1970 at which the server loaded it.
    created: u64,
    owned_by: &'static str,
}

impl ModelEntry {
    fn new(model: &ServedModel, created: u64) -> Self {
        Self { id: model.manifest.name.clone(), object: "model", created, owned_by: "dalle" }
    }
}

/// `GET /v1/models`.
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<ModelList>, ErrorResponse> {
    let model = app.model()?;
    Ok(Json(ModelList { object: "list", data: [ModelEntry::new(&model, app.started)] }))
}

/// `GET /v1/models/{id}`: the served model, by its name or hash.
pub async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelEntry>, ErrorResponse> {
    let (Path(id), model) = (id?, app.model()?);
    let manifest = &model.manifest;
    if id == manifest.name || id == manifest.hash {
        return Ok(Json(ModelEntry::new(&model, app.started)));
    }
    let message = format!(
        "expected {}, the name of the served model; any `model` is accepted for images",
        manifest.name
    );
    let mut response = ErrorResponse::new(ErrorCode::NotFound, message);
    response.error.field = Some("model".to_owned());
    Err(response)
}
