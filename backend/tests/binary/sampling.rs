//! The server samples what the model samples without a server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dalle_model::burn::module::Module;
use dalle_shared::{ImageToken, ModelManifest, TextToken, sha256_hex};
use serde_json::{Value, json};

use crate::fixture::{Model, Server};

#[tokio::test]
async fn returns_the_tokens_and_images_of_the_model() {
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
    // The prior too, which a browser can run as long as it is small.
    let expected =
        ["config.json", "tokenizer.json", "decoder.safetensors", "encoder.safetensors", "model.safetensors"];
    assert_eq!(names, expected);

    // Several concurrent requests with different captions and sizes: each is sampled as if it were alone.
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

    // With an image's own first tokens as prefix, the rest is sampled as before. Another prefix is returned unchanged.
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
    for (row, image) in rows.iter().zip(data) {
        let png = STANDARD.decode(image["b64_json"].as_str().unwrap()).unwrap();
        let got = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(got.into_raw(), model.decoder.decode(row, manifest.geometry.grid).unwrap());
    }
}
