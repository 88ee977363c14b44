//! A test server on a free port, and helpers for requests.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use dalle_backend::{Listeners, Loaded, Options, ServedModel, ServerError, serve};
use dalle_shared::{
    ErrorBody, GenerationCreated, GenerationState, GenerationStatus, ModelFile, ModelManifest, Tokenizer,
    sha256_hex,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::sampler::{Behaviour, GEOMETRY, Probe, TestSampler};

/// Time limit for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestServer {
    pub base: String,
    /// URL of the admin address, if there is one.
    pub admin: Option<String>,
    pub client: Client,
    pub probe: Arc<Probe>,
    pub stop: oneshot::Sender<()>,
    pub outcome: JoinHandle<Result<(), ServerError>>,
}

pub fn options() -> Options {
    Options::default()
}

/// Steps so slow that an image of [`GEOMETRY`] takes longer than any test.
pub fn slow() -> Behaviour {
    Behaviour { step_time: Duration::from_secs(1), ..Behaviour::default() }
}

/// Steps with which an image takes about 0.2 s and sends several events.
pub fn brisk() -> Behaviour {
    Behaviour { step_time: Duration::from_millis(3), ..Behaviour::default() }
}

/// The hash of the served model.
pub fn model_hash() -> String {
    sha256_hex(b"the model")
}

pub fn tokenizer() -> Tokenizer {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let merges = [("Ġ", "c"), ("a", "t"), ("Ġc", "at")];
    let merged = merges.iter().map(|(a, b)| format!("{a}{b}"));
    let vocab: Vec<(String, u32)> = alphabet.into_iter().map(String::from).chain(merged).zip(0..).collect();
    let vocab: [(String, u32); 259] = vocab.try_into().unwrap();
    let merges = merges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Tokenizer::from_bpe(BPE::builder().vocab_and_merges(vocab, merges).build().unwrap()).unwrap()
}

pub fn served_model() -> ServedModel {
    let contents = vec![Bytes::from_static(b"{}"), Bytes::from(vec![7; 100_000]), Bytes::from(vec![8; 100])];
    let names = ["config.json", "decoder.safetensors", "encoder.safetensors"];
    let files = names.iter().zip(&contents).map(|(name, content)| {
        let sha256 = sha256_hex(content);
        let url = format!("/v1/model/files/{name}?sha256={sha256}");
        ModelFile { name: (*name).to_owned(), url, bytes: content.len() as u64, sha256 }
    });
    let manifest = ModelManifest {
        scores: true,
        max_rows: 32,
        name: "test".into(),
        hash: model_hash(),
        geometry: GEOMETRY,
        prior_parameters: 1,
        files: files.collect(),
        examples: vec!["a cat".into()],
        license: String::new(),
    };
    ServedModel { manifest, tokenizer: tokenizer(), contents }
}

/// Listens on a free port.
async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl TestServer {
    /// Starts a server and waits until it is ready.
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_with(behaviour, options()).await
    }

    /// [`start`](Self::start) with options.
    pub async fn start_with(behaviour: Behaviour, options: Options) -> Self {
        Self::start_loading(behaviour, options, || Ok(())).await.ready().await
    }

    /// [`start_with`](Self::start_with) with an admin address.
    pub async fn start_with_admin(behaviour: Behaviour, options: Options) -> Self {
        let listeners = Listeners { public: listener().await, admin: Some(listener().await) };
        Self::start_at(listeners, behaviour, options, || Ok(())).await.ready().await
    }

    async fn ready(self) -> Self {
        self.until("ready", async || self.get("/health/ready").await.status() == StatusCode::OK).await;
        self
    }

    /// Starts a server that calls `before` when it loads.
    pub async fn start_loading(
        behaviour: Behaviour,
        options: Options,
        before: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self::start_at(listener().await.into(), behaviour, options, before).await
    }

    async fn start_at(
        listeners: Listeners,
        behaviour: Behaviour,
        options: Options,
        before: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (base, admin) = (url(&listeners.public), listeners.admin.as_ref().map(url));
        let probe = Arc::new(Probe::default());
        let sampler_probe = Arc::clone(&probe);
        let load = move || {
            before()?;
            let sampler = Box::new(TestSampler::new(sampler_probe, behaviour));
            Ok(Loaded { model: served_model(), sampler })
        };
        let (stop, stopped) = oneshot::channel();
        let outcome = tokio::spawn(serve(listeners, options, load, async {
            let _ = stopped.await;
        }));
        let client = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { base, admin, client, probe, stop, outcome }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(path)).json(body)
    }

    /// Requests a generation.
    pub async fn ask(&self, body: &Value) -> Response {
        self.post("/v1/generations", body).send().await.unwrap()
    }

    /// Requests a generation, which must be accepted.
    pub async fn create(&self, body: &Value) -> GenerationCreated {
        let response = self.ask(body).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        response.json().await.unwrap()
    }

    pub async fn state(&self, id: &str) -> GenerationState {
        self.get(&format!("/v1/generations/{id}")).await.json::<GenerationStatus>().await.unwrap().state
    }

    pub async fn delete(&self, id: &str) -> Response {
        self.client.delete(self.url(&format!("/v1/generations/{id}"))).send().await.unwrap()
    }

    /// Waits until a condition holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let begin = Instant::now();
        while !holds().await {
            assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A valid request.
pub fn request(seed: u64, samples: usize) -> Value {
    json!({ "model": model_hash(), "text": [5, 6, 7], "samples": samples, "seed": seed.to_string() })
}

/// Asserts the status and shape of an error response and returns its parts: code in snake case, message, field.
pub async fn error(response: Response, status: u16) -> (String, String, Option<String>) {
    let got = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    let body: ErrorBody = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(body.error.code.status(), status);
    let code = serde_json::to_value(body.error.code).unwrap().as_str().unwrap().to_owned();
    (code, body.error.message, body.error.field)
}
