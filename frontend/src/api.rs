//! The server's HTTP interface. Every failure is a [`Problem`].

use dalle_shared::{
    ErrorBody, ErrorCode, GenerationCreated, GenerationRequest, GenerationStatus, ModelFile, ModelManifest,
    address, sha256_hex,
};
use gloo_net::http::{Request, RequestBuilder, Response};
use serde::Deserialize;
use web_sys::{AbortSignal, RequestCache, RequestMode};

use crate::browser;
use crate::problem::Problem;

/// Longest wait for an answer. Requests are answered at once; only event streams take long.
const PATIENCE_MS: u32 = 20_000;
/// Wait before asking a busy server again, where it does not say how long.
const DEFAULT_RETRY_SECONDS: f64 = 5.0;

/// `config.json` beside the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeConfig {
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

/// Where the page finds what it needs. There is a backend or a model.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The backend's base address: an origin, perhaps with a path, or a path on the page's own origin.
    pub backend: Option<String>,
    /// The base address of a model's files, for a page without a server.
    pub model: Option<String>,
    /// The address of the source code, if the page's host names one.
    pub source: Option<String>,
}

/// The addresses in `config.json`.
///
/// # Errors
/// [`Problem::NoServer`] if the page's own host does not answer, [`Problem::Config`] if the file cannot be used.
pub async fn addresses() -> Result<Addresses, Problem> {
    // A host that says nothing about caching must not hide a new address.
    let response = send(Request::get("config.json").cache(RequestCache::NoCache)).await?;
    if !response.ok() {
        return Err(Problem::Config(format!("its host answered {}", response.status())));
    }
    let text = response.text().await.map_err(|_| Problem::NoServer)?;
    let config: RuntimeConfig =
        serde_json::from_str(&text).map_err(|error| Problem::Config(error.to_string()))?;
    let RuntimeConfig { backend, model, source } = config;
    // Nothing but a web address may become a link.
    let source = source.filter(|source| source.starts_with("https://"));
    let backend = match backend {
        Some(address) if address.is_empty() => Some(browser::base_path()),
        Some(address) if !is_absolute(&address) => {
            return Err(Problem::Config(format!(
                "its backend is “{address}”; expected an address that begins with http:// or https://, or a path that begins with /"
            )));
        }
        backend => backend,
    };
    let model = model.map(|model| match is_absolute(&model) {
        true => model,
        false => address(&browser::base_path(), &model),
    });
    if backend.is_none() && model.is_none() {
        return Err(Problem::Config("it names neither a backend nor a model".to_owned()));
    }
    Ok(Addresses { backend, model, source })
}

fn is_absolute(address: &str) -> bool {
    ["http://", "https://", "/"].iter().any(|start| address.starts_with(start))
}

/// The manifest of a model's files beside the page.
///
/// # Errors
/// Why it cannot be read.
pub async fn manifest(model: &str) -> Result<ModelManifest, Problem> {
    json(send(Request::get(&address(model, "manifest.json")).cache(RequestCache::NoCache)).await?).await
}

/// `GET /v1/model`.
///
/// # Errors
/// Why the server does not answer with it; [`Problem::Forbidden`] if it answers, but not to this page.
pub async fn model(backend: &str) -> Result<ModelManifest, Problem> {
    let url = address(backend, "v1/model");
    match send(Request::get(&url)).await {
        Ok(response) => json(response).await,
        // Without CORS the answer cannot be read, but it shows that there is a server.
        Err(Problem::NoServer) if send(Request::get(&url).mode(RequestMode::NoCors)).await.is_ok() => {
            Err(Problem::Forbidden { origin: browser::origin() })
        }
        Err(problem) => Err(problem),
    }
}

/// A small file of the model, checked against its hash.
///
/// # Errors
/// Why it could not be downloaded, or that its hash differs.
pub async fn file(base: &str, file: &ModelFile) -> Result<Vec<u8>, Problem> {
    let response = accept(send(Request::get(&address(base, &file.url))).await?).await?;
    let bytes = response.binary().await.map_err(|_| Problem::NoServer)?;
    if sha256_hex(&bytes) == file.sha256 {
        Ok(bytes)
    } else {
        Err(Problem::Misunderstood(format!("{} is not the file that its manifest describes", file.name)))
    }
}

/// `POST /v1/generations`.
///
/// # Errors
/// Why it was not accepted.
pub async fn create(backend: &str, request: &GenerationRequest) -> Result<GenerationCreated, Problem> {
    let signal = AbortSignal::timeout_with_u32(PATIENCE_MS);
    let response = Request::post(&address(backend, "v1/generations"))
        .abort_signal(Some(&signal))
        .json(request)
        .map_err(|error| Problem::Misunderstood(error.to_string()))?
        .send()
        .await
        .map_err(|_| Problem::NoServer)?;
    json(response).await
}

/// Opens an event stream. The response's body has no time limit; `signal` ends it.
///
/// # Errors
/// [`Problem::Gone`] if the server does not know the generation, or why it does not answer.
pub async fn events(url: &str, signal: Option<&AbortSignal>) -> Result<Response, Problem> {
    let request = Request::get(url).header("accept", "text/event-stream").cache(RequestCache::NoStore);
    accept(request.abort_signal(signal).send().await.map_err(|_| Problem::NoServer)?).await
}

/// `GET /v1/generations/{id}`: how many generations are before it in the queue, if it waits there.
///
/// # Errors
/// Why the server does not say.
pub async fn place(backend: &str, id: &str) -> Result<Option<usize>, Problem> {
    let url = address(backend, &format!("v1/generations/{id}"));
    Ok(json::<GenerationStatus>(send(Request::get(&url).cache(RequestCache::NoStore)).await?).await?.before)
}

/// `GET /v1/generations/{id}/images/{sample}`: a sample of a finished generation as a PNG file.
///
/// # Errors
/// Why the server does not answer with it.
pub async fn image(backend: &str, id: &str, sample: usize) -> Result<Vec<u8>, Problem> {
    let url = address(backend, &format!("v1/generations/{id}/images/{sample}"));
    accept(send(Request::get(&url)).await?).await?.binary().await.map_err(|_| Problem::NoServer)
}

/// `DELETE /v1/generations/{id}`.
///
/// # Errors
/// Why it was not cancelled.
pub async fn cancel(backend: &str, id: &str) -> Result<(), Problem> {
    let url = address(backend, &format!("v1/generations/{id}"));
    accept(send(Request::delete(&url)).await?).await.map(drop)
}

async fn send(request: RequestBuilder) -> Result<Response, Problem> {
    let signal = AbortSignal::timeout_with_u32(PATIENCE_MS);
    request.abort_signal(Some(&signal)).send().await.map_err(|_| Problem::NoServer)
}

/// The response if it is a success, else the problem that it describes.
async fn accept(response: Response) -> Result<Response, Problem> {
    if response.ok() {
        return Ok(response);
    }
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|seconds| seconds.parse().ok());
    let text = response.text().await.map_err(|_| Problem::NoServer)?;
    match serde_json::from_str::<ErrorBody>(&text) {
        Ok(body) if body.error.code == ErrorCode::Busy => {
            let wait: f64 = retry_after.unwrap_or(DEFAULT_RETRY_SECONDS);
            Err(Problem::Busy { retry_at: browser::now() + wait.clamp(1.0, 600.0) * 1e3 })
        }
        Ok(body) => Err(body.error.into()),
        // A proxy answers for a server that is down.
        Err(_) if (502..=504).contains(&status) => Err(Problem::NoServer),
        Err(_) => Err(Problem::Misunderstood(format!("status {status} without an explanation"))),
    }
}

async fn json<T: for<'a> Deserialize<'a>>(response: Response) -> Result<T, Problem> {
    let text = accept(response).await?.text().await.map_err(|_| Problem::NoServer)?;
    serde_json::from_str(&text).map_err(|error| Problem::Misunderstood(error.to_string()))
}
