//! OpenAI's Images API over raw HTTP.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dalle_backend::Options;
use dalle_shared::ImageToken;
use serde_json::{Value, json};

use crate::sampler::{Behaviour, GEOMETRY, pixels, score, token};
use crate::server::{TestServer, error, options, slow, tokenizer};

async fn ask(server: &TestServer, body: &Value) -> reqwest::Response {
    server.post("/v1/images/generations", body).send().await.unwrap()
}

#[tokio::test]
async fn a_prompt_becomes_the_images_of_its_tokens() {
    let server = TestServer::start(Behaviour::default()).await;
    let body = json!({
        "prompt": "A CAT", "n": 2, "size": "64x64", "response_format": "b64_json", "seed": 7, "model": "dall-e-2",
    });
    let answer: Value = ask(&server, &body).await.json().await.unwrap();
    assert!(answer["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(answer["seed"], "7");
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    let text = tokenizer().encode("a cat", 15).unwrap().ids;
    for (sample, image) in data.iter().enumerate() {
        let png = STANDARD.decode(image["b64_json"].as_str().unwrap()).unwrap();
        let got = image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap().into_rgb8();
        assert_eq!(got.dimensions(), (64, 64));
        let tokens: Vec<ImageToken> =
            (0..GEOMETRY.image_length()).map(|position| token(&text, 7, sample, position)).collect();
        assert_eq!(got.into_raw(), pixels(&tokens));
    }
}

#[tokio::test]
async fn best_of_returns_the_best_images_first() {
    let server = TestServer::start(Behaviour::default()).await;
    let body = json!({ "prompt": "a cat", "n": 2, "best_of": 6, "seed": 7 });
    let answer: Value = ask(&server, &body).await.json().await.unwrap();
    let text = tokenizer().encode("a cat", 15).unwrap().ids;
    let mut sampled: Vec<Vec<ImageToken>> = (0..6)
        .map(|sample| (0..GEOMETRY.image_length()).map(|place| token(&text, 7, sample, place)).collect())
        .collect();
    sampled.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    for (image, tokens) in data.iter().zip(&sampled) {
        let png = STANDARD.decode(image["b64_json"].as_str().unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().into_rgb8().into_raw(), pixels(tokens));
    }
}

#[tokio::test]
async fn only_a_prompt_is_required_and_each_response_has_its_own_seed() {
    let server = TestServer::start(Behaviour::default()).await;
    let first: Value = ask(&server, &json!({"prompt": "a cat"})).await.json().await.unwrap();
    let second: Value = ask(&server, &json!({"prompt": "a cat"})).await.json().await.unwrap();
    assert_eq!(first["data"].as_array().unwrap().len(), 1);
    assert_ne!(first["data"], second["data"]);
    let seed = &first["seed"];
    let again: Value = ask(&server, &json!({"prompt": "a cat", "seed": seed})).await.json().await.unwrap();
    assert_eq!(first["data"], again["data"], "the seed in the response can be used again");
}

#[tokio::test]
async fn unsupported_options_are_named() {
    let server = TestServer::start(Behaviour::default()).await;
    for (body, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": " "}), "prompt"),
        (json!({"prompt": 3}), "prompt"),
        (json!({"prompt": "x", "n": 10}), "n"),
        (json!({"prompt": "x", "size": "1024x1024"}), "size"),
        (json!({"prompt": "x", "response_format": "url"}), "response_format"),
        (json!({"prompt": "x", "stream": true}), "stream"),
        (json!({"prompt": "x", "colour": "red"}), "colour"),
    ] {
        let (_, message, named) = error(ask(&server, &body).await, 400).await;
        assert_eq!(named.as_deref(), Some(field), "{body}: {message}");
    }
    // A prompt that is too long for the model is truncated, as in training.
    assert_eq!(ask(&server, &json!({"prompt": "long ".repeat(1000)})).await.status(), 200);
}

#[tokio::test]
async fn disconnecting_cancels_the_job() {
    let server = TestServer::start(Behaviour { step_time: Duration::from_millis(50), ..slow() }).await;
    let body = json!({"prompt": "a cat", "n": 4});
    let call = server.post("/v1/images/generations", &body).timeout(Duration::from_millis(400)).send().await;
    assert!(call.unwrap_err().is_timeout());
    assert_eq!(server.probe.most_rows.load(SeqCst), 4, "it ran");
    server.until("rows freed", async || server.probe.rows.load(SeqCst) == 0).await;
    assert!(server.probe.steps.load(SeqCst) < 60, "the job was cancelled, not finished");
}

#[tokio::test]
async fn images_that_are_not_ready_in_time_are_cancelled() {
    let images_timeout = Duration::from_millis(300);
    let server = TestServer::start_with(slow(), Options { images_timeout, ..options() }).await;
    // One is running, and one waits in the queue.
    let body = json!({"prompt": "a cat", "n": 9, "best_of": 32});
    for answer in futures_util::future::join_all([ask(&server, &body), ask(&server, &body)]).await {
        assert!(answer.headers().contains_key("retry-after"));
        let (code, message, _) = error(answer, 503).await;
        assert_eq!(code, "unavailable");
        assert!(message.contains("0.3 s") && message.contains("/v1/generations"), "{message}");
    }
    server.until("rows freed", async || server.probe.rows.load(SeqCst) == 0).await;
    assert!(server.probe.steps.load(SeqCst) < 10, "the jobs were cancelled, not finished");
}

#[tokio::test]
async fn a_request_refused_by_the_sampler_names_no_field() {
    let server = TestServer::start(Behaviour { refuses_samples: Some(2), ..Behaviour::default() }).await;
    let refused = error(ask(&server, &json!({"prompt": "a cat", "n": 2})).await, 400).await;
    assert_eq!(refused, ("invalid_request".to_owned(), "refused by the test".to_owned(), None));
}
