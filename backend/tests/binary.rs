//! `dalle-server` as a process, with a real (small, random) model from a folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::clip::{Clip, ClipConfig};
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{Decoder, Encoder};
use dalle_model::prior::Prior;
use dalle_model::sample::{Batch, JobKey, SampleRequest};
use dalle_model::weights::to_safetensors;
use dalle_native::device::DeviceName;
use dalle_shared::{
    EventKind, GenerationCreated, GenerationEvent, ImageToken, ModelManifest, SamplingSettings, TextToken,
    Tokenizer, sha256_hex,
};
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

const PATIENCE: Duration = Duration::from_secs(60);

/// A model folder with random weights, and the networks in it.
struct Model {
    folder: tempfile::TempDir,
    config: ModelConfig,
    prior: Prior,
    decoder: Decoder,
    tokenizer: Tokenizer,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let json = include_bytes!("../../configs/tiny.json");
        let config: ModelConfig = serde_json::from_slice(json).unwrap();
        let device = DeviceName::Cpu.open().unwrap();
        let (prior, decoder) = (Prior::new(&config, &device), Decoder::new(&config.dvae, &device));
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: Vec<(String, u32)> = alphabet.into_iter().map(String::from).zip(0..).collect();
        let vocab: [(String, u32); 256] = vocab.try_into().unwrap();
        let bpe = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
        let tokenizer = Tokenizer::from_bpe(bpe).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("config.json", json);
        write("tokenizer.json", tokenizer.to_json().unwrap().as_bytes());
        write("model.safetensors", &safetensors(&prior));
        write("encoder.safetensors", &safetensors(&Encoder::new(&config.dvae, &device)));
        write("decoder.safetensors", &safetensors(&decoder));
        Self { folder, config, prior, decoder, tokenizer }
    }

    fn hash(&self) -> String {
        let names = [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "encoder.safetensors",
            "decoder.safetensors",
        ];
        let hashes = names.map(|name| sha256_hex(&std::fs::read(self.folder.path().join(name)).unwrap()));
        ModelManifest::hash_files(names.iter().copied().zip(hashes.iter().map(String::as_str)))
    }

    /// The tokens that the model gives outside any server.
    fn sample(&self, text: Vec<TextToken>, samples: usize, seed: u64) -> Vec<Vec<ImageToken>> {
        let mut batch = Batch::new(self.prior.clone(), &self.config);
        let sampling = SamplingSettings::default();
        batch.admit(JobKey(0), SampleRequest { text, samples, seed, sampling, prefix: Vec::new() }).unwrap();
        let mut rows = vec![Vec::new(); samples];
        while !batch.is_empty() {
            for output in batch.step().unwrap() {
                rows.iter_mut().zip(output.tokens).for_each(|(row, token)| row.push(token));
            }
        }
        rows
    }
}

fn safetensors<M: Module>(module: &M) -> Vec<u8> {
    to_safetensors(module, FloatDType::F32).unwrap()
}

/// The running process; killed when dropped.
struct Server {
    process: Child,
    base: String,
}

impl Server {
    fn command(model: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalle-server"));
        command.args(["--port", "0", "--model"]).arg(model).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and reads its address.
    fn start(model: &Path) -> Self {
        let mut process = Self::command(model).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, base }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn until_ready(&self) {
        let begin = Instant::now();
        while !reqwest::get(self.url("/health/ready")).await.unwrap().status().is_success() {
            assert!(begin.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        reqwest::Client::new().post(self.url(path)).json(body).send().await.unwrap()
    }

    /// The tokens of a whole generation.
    async fn generate(&self, body: &Value) -> Vec<Vec<ImageToken>> {
        let created: GenerationCreated = self.post("/v1/generations", body).await.json().await.unwrap();
        let text = reqwest::get(self.url(&created.events)).await.unwrap().text().await.unwrap();
        let mut rows: Vec<Vec<ImageToken>> = Vec::new();
        let mut last = None;
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: GenerationEvent = serde_json::from_str(data).unwrap();
            if let EventKind::Tokens { tokens, .. } = &event.kind {
                rows.resize(tokens.len(), Vec::new());
                rows.iter_mut().zip(tokens).for_each(|(row, tokens)| row.extend(tokens));
            }
            last = Some(event.kind);
        }
        assert!(matches!(last, Some(EventKind::Finished { .. })), "{last:?}");
        rows
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the end.
fn exit(process: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn gives_the_tokens_and_pictures_of_the_model() {
    let model = Model::new();
    let server = Server::start(model.folder.path());
    server.until_ready().await;
    let manifest: ModelManifest = reqwest::get(server.url("/v1/model")).await.unwrap().json().await.unwrap();
    assert_eq!(manifest.hash, model.hash());
    assert_eq!(manifest.prior_parameters, model.prior.num_params() as u64);
    for file in &manifest.files {
        let bytes = reqwest::get(server.url(&file.url)).await.unwrap().bytes().await.unwrap();
        assert_eq!((sha256_hex(&bytes), bytes.len() as u64), (file.sha256.clone(), file.bytes));
    }

    let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "tokenizer.json", "decoder.safetensors", "encoder.safetensors"]);

    // Several at once, of different captions and sizes: each as if it were alone.
    let generate = |index: u32| {
        let text: Vec<u32> = (0..index * 3).map(|i| (i * 7 + index) % 256).collect();
        let samples = 1 + index as usize % 3;
        let body = json!({ "model": manifest.hash, "text": text, "samples": samples, "seed": index });
        let server = &server;
        async move { (text, samples, index, server.generate(&body).await) }
    };
    for (text, samples, seed, rows) in futures_util::future::join_all((0..5).map(generate)).await {
        let text = text.into_iter().map(TextToken).collect();
        assert_eq!(rows, model.sample(text, samples, seed.into()), "seed {seed}");
    }

    // A picture's own beginning, given: the rest is drawn as it was. Another beginning stays as it is.
    let text: Vec<TextToken> = (0..5).map(TextToken).collect();
    let own = model.sample(text.clone(), 1, 9).swap_remove(0);
    let given: Vec<ImageToken> = own.iter().map(|token| ImageToken((token.0 + 1) % 16)).collect();
    let begun = async |prefix: &[ImageToken]| {
        let body = json!({ "model": manifest.hash, "text": text, "seed": 9, "prefix": prefix });
        server.generate(&body).await.swap_remove(0)
    };
    for length in [1, 6, own.len()] {
        assert_eq!(begun(&own[..length]).await, own, "{length} given");
    }
    let other = begun(&given[..6]).await;
    assert_eq!((&other[..6], other.len()), (&given[..6], own.len()));

    let answer =
        server.post("/v1/images/generations", &json!({ "prompt": "A cat", "n": 2, "seed": 5 })).await;
    let answer: Value = answer.json().await.unwrap();
    let text = model.tokenizer.encode("A cat", manifest.geometry.caption_length()).unwrap().ids;
    let rows = model.sample(text, 2, 5);
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    for (row, picture) in rows.iter().zip(data) {
        let png = STANDARD.decode(picture["b64_json"].as_str().unwrap()).unwrap();
        let got = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(got.into_raw(), model.decoder.decode_rgb(row, manifest.geometry.grid));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ends_well_when_told_to() {
    let model = Model::new();
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(model.folder.path());
        server.until_ready().await;
        let told = Command::new("kill").args([signal, &server.process.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert_eq!(exit(&mut server.process).code(), Some(0), "{signal}");
    }
}

/// Runs it to its end, which must be a failure, and returns what it said.
fn failure(model: &Path, extra: &[&str]) -> String {
    failure_of(Server::command(model).args(extra))
}

/// The same for any command.
fn failure_of(command: &mut Command) -> String {
    let mut process = command.spawn().unwrap();
    assert_eq!(exit(&mut process).code(), Some(1));
    let output = process.wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn says_what_is_wrong_with_a_model_folder() {
    let model = Model::new();
    let folder = model.folder.path();
    let nowhere = failure(&folder.join("nowhere"), &[]);
    assert!(nowhere.contains("nowhere/config.json"), "{nowhere}");

    let site = failure(folder, &["--site", "/nowhere"]);
    assert!(site.contains("/nowhere/index.html"), "{site}");
    if !cfg!(feature = "cuda") {
        let device = failure(folder, &["--device", "cuda:0"]);
        assert!(device.contains("--features cuda"), "{device}");
    }

    let weights = folder.join("decoder.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let torn = failure(folder, &[]);
    assert!(torn.contains("decoder.safetensors") && torn.contains("damaged"), "{torn}");
    std::fs::write(&weights, std::fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    let foreign = failure(folder, &[]);
    assert!(foreign.contains("decoder.safetensors") && foreign.contains("another model"), "{foreign}");
    std::fs::write(&weights, whole).unwrap();

    // The server does not run the encoder, but browsers are handed it.
    let encoder = folder.join("encoder.safetensors");
    let whole = std::fs::read(&encoder).unwrap();
    std::fs::write(&encoder, &whole[..100]).unwrap();
    let torn = failure(folder, &[]);
    assert!(torn.contains("encoder.safetensors") && torn.contains("damaged"), "{torn}");
    let mut infinite = whole.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&encoder, infinite).unwrap();
    let infinite = failure(folder, &[]);
    assert!(
        infinite.contains("encoder.safetensors: tensor `") && infinite.contains("NaN or infinite"),
        "{infinite}"
    );
    std::fs::write(&encoder, whole).unwrap();

    std::fs::write(folder.join("config.json"), r#"{"name": "x"}"#).unwrap();
    let config = failure(folder, &[]);
    assert!(config.contains("config.json") && config.contains("text_length"), "{config}");
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    std::fs::write(folder.join("config.json"), include_bytes!("../../configs/tiny.json")).unwrap();
    let missing = failure(folder, &[]);
    assert!(missing.contains("tokenizer.json"), "{missing}");
}

#[test]
fn says_what_is_wrong_with_a_contrastive_model() {
    let model = Model::new();
    let folder = model.folder.path();
    let (config, weights) = (folder.join("clip.json"), folder.join("clip.safetensors"));
    let tiny: ClipConfig = serde_json::from_slice(include_bytes!("../../configs/tiny.clip.json")).unwrap();
    let clip = Clip::new(&tiny, &model.config, &DeviceName::Cpu.open().unwrap());
    std::fs::write(&weights, safetensors(&clip)).unwrap();
    let alone = failure(folder, &[]);
    assert!(alone.contains("clip.json is missing") && alone.contains("dalle clip train"), "{alone}");
    let tokenizer = sha256_hex(&std::fs::read(folder.join("tokenizer.json")).unwrap());
    let whole = serde_json::to_value(ClipConfig { tokenizer: Some(tokenizer), ..tiny }).unwrap();
    let said_of = |spoil: &dyn Fn(&mut Value)| {
        let mut json = whole.clone();
        spoil(&mut json);
        std::fs::write(&config, json.to_string()).unwrap();
        failure(folder, &[])
    };
    let other = said_of(&|json| json["tokenizer"] = "0".repeat(64).into());
    assert!(other.contains("another tokenizer.json") && other.contains("dalle clip train"), "{other}");
    let patch = said_of(&|json| json["patch"] = 7.into());
    assert!(patch.contains("clip.json: `patch` must divide"), "{patch}");
    let form = said_of(&|json| *json = json!({ "name": "x" }));
    assert!(form.contains("clip.json is not a CLIP configuration"), "{form}");
    let wide = said_of(&|json| json["embedding"] = 32.into());
    assert!(wide.contains("clip.safetensors: tensor `text.projection` has shape"), "{wide}");
    std::fs::remove_file(weights).unwrap();
    let alone = said_of(&|_| ());
    assert!(alone.contains("clip.safetensors is missing"), "{alone}");
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let said = failure_of(Server::command(Path::new("nowhere")).env("DALLE_LOG", "[[["));
    assert!(said.contains("DALLE_LOG: expected") && said.contains("got `[[[`"), "{said}");
    let fine = failure_of(Server::command(Path::new("nowhere")).env("DALLE_LOG", ""));
    assert!(fine.contains("nowhere/config.json"), "{fine}");
}
