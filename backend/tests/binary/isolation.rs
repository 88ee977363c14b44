//! A request whose logits are NaN or infinite does not affect others.

use std::io::Read;
use std::process::Stdio;

use dalle_shared::{ErrorCode, EventKind, GenerationCreated, GenerationEvent, TextToken};
use serde_json::{Value, json};

use crate::fixture::{Model, Server};

/// The text id whose embedding overflows.
const POISON: u32 = 7;
/// Width of the model.
const D: usize = 32;

/// A model that samples long enough for jobs to overlap.
fn model() -> Model {
    let mut config: Value = serde_json::from_slice(include_bytes!("../../../configs/tiny.json")).unwrap();
    config["image_size"] = 128.into();
    Model::of(config.to_string().as_bytes())
}

/// Sets values of a tensor of the prior's file: `(index, value)`.
fn set(model: &Model, tensor: &str, values: impl IntoIterator<Item = (usize, f32)>) {
    let path = model.folder.path().join("model.safetensors");
    let mut file = std::fs::read(&path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    let json: Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let start = 8 + header + json[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    for (index, value) in values {
        file[start + 4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(path, file).unwrap();
}

async fn last_event(server: &Server, created: &GenerationCreated) -> EventKind {
    let text = reqwest::get(server.url(&created.events)).await.unwrap().text().await.unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    serde_json::from_str::<GenerationEvent>(last).unwrap().kind
}

/// Generations that run while one with the id [`POISON`] fails, in `dtype`.
async fn one_fails_and_the_others_finish(model: &Model, dtype: &str) {
    let hash = model.hash();
    let mut command = Server::command(model.folder.path());
    let mut server = Server::start_command(command.args(["--dtype", dtype]).stderr(Stdio::piped()));
    server.until_ready().await;
    let create = async |text: &[u32], samples: usize| -> GenerationCreated {
        let body = json!({ "model": hash, "text": text, "samples": samples, "seed": 3 });
        server.post("/v1/generations", &body).await.json().await.unwrap()
    };
    let alone = server.generate(&json!({ "model": hash, "text": [1, 2], "samples": 2, "seed": 3 })).await;

    let healthy = [create(&[1, 2], 2).await, create(&[3], 9).await, create(&[], 1).await];
    let prompt = json!({ "prompt": "a cat" });
    let images = server.post("/v1/images/generations", &prompt);
    let poisoned = async {
        // Once another job has its first tokens.
        reqwest::get(server.url(&healthy[0].events)).await.unwrap().chunk().await.unwrap();
        last_event(&server, &create(&[2, POISON], 3).await).await
    };
    let (failed, images) = tokio::join!(poisoned, images);
    assert_eq!(images.status(), 200);
    for created in &healthy {
        let last = last_event(&server, created).await;
        assert!(matches!(last, EventKind::Finished { .. }), "{dtype}: {last:?}");
    }
    let EventKind::Failed { error } = failed else { panic!("{failed:?}") };
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("NaN or infinite"), "{}", error.message);
    let body = json!({ "model": hash, "text": [1, 2], "samples": 2, "seed": 3 });
    assert_eq!(server.generate(&body).await, alone, "{dtype}: the model is unchanged");

    let metrics = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.lines().any(|line| line == "dalle_failed_total 1"), "{metrics}");
    server.process.kill().unwrap();
    let mut log = String::new();
    server.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("job=") && errors[0].contains("NaN or infinite"), "{log}");
}

/// The embedding is finite, so it can be loaded, but its LayerNorm overflows.
#[tokio::test]
async fn a_caption_that_overflows_f32_fails_alone() {
    let model = model();
    let row = POISON as usize * D;
    set(&model, "embed.text", (row..row + D).map(|index| (index, 3e38)));
    one_fails_and_the_others_finish(&model, "f32").await;
}

/// A value in attention that overflows f16 but not f32: 5.6, the LayerNorm of a vector with one large component, times 15,000. In
/// other captions the component is smaller.
#[tokio::test]
async fn a_caption_that_overflows_only_f16_fails_alone() {
    let model = model();
    let row = POISON as usize * D;
    set(&model, "embed.text", [(row, 1000.0)]);
    set(&model, "blocks.0.qkv.weight", [(2 * D, 15_000.0)]);
    one_fails_and_the_others_finish(&model, "f16").await;

    let server = Server::start(model.folder.path());
    server.until_ready().await;
    let text = [TextToken(2), TextToken(POISON)];
    let body = json!({ "model": model.hash(), "text": text, "seed": 3 });
    assert_eq!(server.generate(&body).await[0].len(), 256, "f32 can represent it");
}
