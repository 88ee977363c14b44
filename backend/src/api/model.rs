//! `/v1/model`: the served model's manifest and the files that a browser needs.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use dalle_shared::{ErrorCode, ModelManifest};
use serde::Deserialize;

use crate::admission::App;
use crate::error_response::ErrorResponse;

/// `GET /v1/model`: the manifest. A restarted server may serve another model, so it is not cached.
pub async fn show(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ErrorResponse> {
    let manifest: ModelManifest = app.model()?.manifest.clone();
    Ok((AppendHeaders([(CACHE_CONTROL, "no-store")]), Json(manifest)))
}

/// The version of a file that a client expects.
#[derive(Deserialize)]
pub struct Version {
    sha256: Option<String>,
}

/// `GET /v1/model/files/{name}`: a file of the manifest. With `?sha256=`, as in the manifest's URLs, the response is immutable and
/// may be cached; otherwise it is revalidated at each use.
pub async fn file(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    version: Result<Query<Version>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let (Path(name), Query(version)) = (name?, version?);
    let model = app.model()?;
    let files = model.manifest.files.iter().zip(&model.contents);
    let Some((file, content)) = files.clone().find(|(file, _)| file.name == name) else {
        let names: Vec<&str> = model.manifest.files.iter().map(|file| file.name.as_str()).collect();
        let message = format!("there is no file `{name}`; the model's files are {}", names.join(", "));
        return Err(ErrorResponse::new(ErrorCode::NotFound, message));
    };
    if version.sha256.as_ref().is_some_and(|sha256| *sha256 != file.sha256) {
        let message = format!("{name} has changed: its SHA-256 is {}; load /v1/model again", file.sha256);
        return Err(ErrorResponse::new(ErrorCode::WrongModel, message));
    }
    let caching = if version.sha256.is_some() { "public, max-age=31536000, immutable" } else { "no-cache" };
    let etag = format!("\"{}\"", file.sha256);
    let seen = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let same =
        seen.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let head = AppendHeaders([(CACHE_CONTROL, caching.to_owned()), (ETAG, etag)]);
    if same {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let kind = match name.rsplit_once('.') {
        Some((_, "json")) => "application/json",
        // Browsers show text, and save Markdown.
        Some((_, "md")) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    Ok((head, AppendHeaders([(CONTENT_TYPE, kind)]), content.clone()).into_response())
}
