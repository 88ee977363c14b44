//! A model folder with random weights, and `dalle-server` as a process that serves it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::{Decoder, Encoder, ImageDecoder};
use dalle_model::prior::Prior;
use dalle_model::sample::{self, JobKey, SampleRequest};
use dalle_model::weights::to_safetensors;
use dalle_native::device::DeviceName;
use dalle_shared::{
    EventKind, GenerationCreated, GenerationEvent, ImageToken, ModelManifest, SamplingSettings, TextToken,
    Tokenizer, sha256_hex,
};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Time limit for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A model folder with random weights, and the networks in it.
pub struct Model {
    pub folder: tempfile::TempDir,
    pub config: ModelConfig,
    pub prior: Prior,
    pub decoder: ImageDecoder,
    pub tokenizer: Tokenizer,
}

impl Model {
    /// A model of the configuration `tiny`.
    pub fn new() -> Self {
        Self::of(include_bytes!("../../../configs/tiny.json"))
    }

    /// A model of the configuration in `json`.
    pub fn of(json: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
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
        Self { folder, config, prior, decoder: ImageDecoder::new(decoder), tokenizer }
    }

    /// The hash that the server must report.
    pub fn hash(&self) -> String {
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

    /// The tokens that the model samples without a server.
    pub fn sample(&self, text: Vec<TextToken>, samples: usize, seed: u64) -> Vec<Vec<ImageToken>> {
        let mut batch = sample::batch(self.prior.clone(), &self.config);
        let sampling = SamplingSettings::default();
        batch.admit(JobKey(0), SampleRequest { text, samples, seed, sampling, prefix: Vec::new() }).unwrap();
        let mut rows = vec![Vec::new(); samples];
        while !batch.is_empty() {
            for output in batch.step().unwrap() {
                rows.iter_mut().zip(output.tokens.unwrap()).for_each(|(row, token)| row.push(token));
            }
        }
        rows
    }
}

/// The weights of a network as a safetensors file.
pub fn safetensors<M: Module>(module: &M) -> Vec<u8> {
    to_safetensors(module, FloatDType::F32).unwrap()
}

/// The running process; killed when dropped.
pub struct Server {
    pub process: Child,
    base: String,
}

impl Server {
    /// The command that serves a model folder on a free port.
    pub fn command(model: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalle-server"));
        command.args(["--port", "0", "--model"]).arg(model).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and reads its address.
    pub fn start(model: &Path) -> Self {
        Self::start_command(Self::command(model).stderr(Stdio::inherit()))
    }

    /// The same for any command.
    pub fn start_command(command: &mut Command) -> Self {
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, base }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn until_ready(&self) {
        let begin = Instant::now();
        while !reqwest::get(self.url("/health/ready")).await.unwrap().status().is_success() {
            assert!(begin.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        reqwest::Client::new().post(self.url(path)).json(body).send().await.unwrap()
    }

    /// The tokens of a whole generation.
    pub async fn generate(&self, body: &Value) -> Vec<Vec<ImageToken>> {
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
pub fn exit(process: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE, "the process does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}
