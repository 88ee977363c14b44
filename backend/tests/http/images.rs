//! OpenAI's Images API over raw HTTP.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dalle_backend::Options;
use dalle_shared::{ImageToken, SamplingSettings, Seed, read_metadata};
use serde_json::{Value, json};

use crate::sampler::{Behaviour, GEOMETRY, pixels, score, token};
use crate::server::{TestServer, error, model_hash, options, request, slow, tokenizer};
use crate::sse::{Events, tokens};

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
        (json!({"prompt": "\u{200b}\u{feff}\0"}), "prompt"),
        (json!({"prompt": "x", "n": 11}), "n"),
        (json!({"prompt": "x", "n": "2"}), "n"),
        (json!({"prompt": "x", "size": "large"}), "size"),
        (json!({"prompt": "x", "response_format": "file"}), "response_format"),
        (json!({"prompt": "x", "background": "transparent"}), "background"),
        (json!({"prompt": "x", "quality": "best"}), "quality"),
        (json!({"prompt": "x", "style": "oil"}), "style"),
        (json!({"prompt": "x", "stream": true, "partial_images": 4}), "partial_images"),
        (json!({"prompt": "x", "colour": "red"}), "colour"),
    ] {
        let answer: Value = ask(&server, &body).await.json().await.unwrap();
        let error = &answer["error"];
        assert_eq!((&error["param"], &error["field"]), (&json!(field), &json!(field)), "{body}: {error}");
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("invalid_request_error"), &json!("invalid_request"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{field}`")), "the sentence names the field: {message}");
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_said_in_a_header_and_in_the_response() {
    let server = TestServer::start(Behaviour::default()).await;
    let fits = ask(&server, &json!({"prompt": "a cat"})).await;
    assert!(!fits.headers().contains_key("x-prompt-tokens-ignored"));
    let fits: Value = fits.json().await.unwrap();
    assert!(fits["warning"].is_null() && fits["data"][0]["revised_prompt"].is_null(), "{fits}");

    let prompt = format!("a cat{}", " and more".repeat(20));
    let ids = tokenizer().encode(&prompt, usize::MAX).unwrap().ids.len();
    let long = ask(&server, &json!({"prompt": prompt, "n": 2})).await;
    assert_eq!(long.status(), 200);
    assert_eq!(long.headers()["x-prompt-tokens-ignored"], (ids - 15).to_string());
    let long: Value = long.json().await.unwrap();
    assert_eq!(long["prompt_tokens_ignored"], ids - 15);
    let warning = long["warning"].as_str().unwrap();
    assert!(warning.contains(&ids.to_string()) && warning.contains("reads 15"), "{warning}");
    for image in long["data"].as_array().unwrap() {
        let read = image["revised_prompt"].as_str().unwrap();
        assert!(prompt.starts_with(read) && read.len() < prompt.len(), "{read}");
    }
    let stream = ask(&server, &json!({"prompt": prompt, "stream": true})).await;
    assert!(stream.headers().contains_key("x-prompt-tokens-ignored"));
    assert!(stream.text().await.unwrap().contains("reads 15"));
}

#[tokio::test]
async fn invisible_characters_in_a_prompt_change_nothing() {
    let server = TestServer::start(Behaviour::default()).await;
    let image = async |prompt: &str| {
        let answer: Value = ask(&server, &json!({"prompt": prompt, "seed": 1})).await.json().await.unwrap();
        pixels_of(&answer["data"][0]["b64_json"])
    };
    assert_eq!(image("\u{feff}a cat\0\r\n").await, image("a cat").await);
}

/// The pixels of a PNG in base64.
fn pixels_of(base64: &Value) -> Vec<u8> {
    let png = STANDARD.decode(base64.as_str().unwrap()).unwrap();
    image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap().into_rgb8().into_raw()
}

#[tokio::test]
async fn images_have_the_requested_size() {
    let server = TestServer::start(Behaviour::default()).await;
    for (size, side) in
        [("auto", 64), ("256x256", 256), ("1024x1024", 1024), ("1792x1024", 1024), ("32x48", 32)]
    {
        let body = json!({"prompt": "a cat", "seed": 3, "size": size, "n": 1});
        let answer: Value = ask(&server, &body).await.json().await.unwrap();
        assert_eq!(answer["size"], format!("{side}x{side}"));
        assert_eq!(pixels_of(&answer["data"][0]["b64_json"]).len(), side * side * 3, "{size}");
    }
}

#[tokio::test]
async fn ten_images_may_be_requested_and_fewer_where_there_are_fewer_rows() {
    let server = TestServer::start(Behaviour::default()).await;
    let answer: Value = ask(&server, &json!({"prompt": "a cat", "n": 10})).await.json().await.unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 10);
    let small = TestServer::start_with(Behaviour::default(), Options { max_rows: 9, ..options() }).await;
    let (_, message, field) = error(ask(&small, &json!({"prompt": "a cat", "n": 10})).await, 400).await;
    assert_eq!(field.as_deref(), Some("n"));
    assert!(message.contains("at most 9"), "{message}");
}

#[tokio::test]
async fn images_as_urls_can_be_fetched_through_a_proxy_too() {
    let server = TestServer::start(Behaviour::default()).await;
    let body = json!({"prompt": "a cat", "n": 2, "seed": 7, "size": "256x256", "response_format": "url"});
    let answer: Value = ask(&server, &body).await.json().await.unwrap();
    let plain = json!({"prompt": "a cat", "n": 2, "seed": 7, "size": "256x256"});
    let plain: Value = ask(&server, &plain).await.json().await.unwrap();
    for index in 0..2 {
        assert!(answer["data"][index]["b64_json"].is_null());
        let url = answer["data"][index]["url"].as_str().unwrap();
        assert!(url.starts_with(&server.base), "{url}");
        let image = server.client.get(url).send().await.unwrap();
        assert_eq!(image.headers()["content-type"], "image/png");
        assert_eq!(
            image.bytes().await.unwrap(),
            STANDARD.decode(plain["data"][index]["b64_json"].as_str().unwrap()).unwrap()
        );
    }
    let proxied = server
        .post("/v1/images/generations", &body)
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "example.org")
        .header("X-Forwarded-Prefix", "/dalle");
    let proxied: Value = proxied.send().await.unwrap().json().await.unwrap();
    let url = proxied["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("https://example.org/dalle/v1/generations/"), "{url}");
    let nonsense = server.post("/v1/images/generations", &body).header("X-Forwarded-Host", "a b");
    let nonsense: Value = nonsense.send().await.unwrap().json().await.unwrap();
    assert!(nonsense["data"][0]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
}

#[tokio::test]
async fn a_finished_generation_has_an_image_for_each_sample() {
    let server =
        TestServer::start(Behaviour { step_time: Duration::from_millis(20), ..Behaviour::default() }).await;
    let created = server.create(&request(5, 2)).await;
    let url = format!("/v1/generations/{}/images", created.id);
    let (_, message, _) = error(server.get(&format!("{url}/0")).await, 404).await;
    assert!(message.contains("not finished"), "{message}");
    let events = Events::of(server.get(&created.events).await).rest().await;
    let png = server.get(&format!("{url}/1")).await.bytes().await.unwrap();
    assert_eq!(image::load_from_memory(&png).unwrap().into_rgb8().into_raw(), pixels(&tokens(&events)[1]));
    for (path, status) in [("/2", 404), ("/x", 404), ("/0?size=big", 400)] {
        error(server.get(&format!("{url}{path}")).await, status).await;
    }
    error(server.get("/v1/generations/0123/images/0").await, 404).await;
}

#[tokio::test]
async fn the_png_says_how_it_was_generated() {
    let server = TestServer::start(Behaviour::default()).await;
    let body = json!({"prompt": "A CAT", "n": 2, "seed": 7});
    let answer: Value = ask(&server, &body).await.json().await.unwrap();
    let png = STANDARD.decode(answer["data"][1]["b64_json"].as_str().unwrap()).unwrap();
    let metadata = read_metadata(&png).unwrap().unwrap();
    assert_eq!(metadata.caption, "A CAT");
    assert_eq!((metadata.model.name.as_str(), metadata.model.hash), ("test", model_hash()));
    assert_eq!((metadata.sampling, metadata.prefix), (SamplingSettings::default(), 0));
    assert_eq!(metadata.samples[0].seed, Seed(8), "the second sample has the next seed");
    let text = tokenizer().encode("a cat", 15).unwrap().ids;
    let sampled: Vec<ImageToken> =
        (0..GEOMETRY.image_length()).map(|place| token(&text, 7, 1, place)).collect();
    assert_eq!(metadata.samples[0].tokens, sampled);
}

/// The events of a streamed response, as name and content.
async fn stream(server: &TestServer, body: &Value) -> Vec<(String, Value)> {
    let answer = ask(server, body).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    let event = |block: &str| {
        let field =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        (field("event:"), serde_json::from_str(&field("data:")).unwrap())
    };
    blocks.map(event).collect()
}

#[tokio::test]
async fn a_stream_has_partial_images_and_then_the_image() {
    let server =
        TestServer::start(Behaviour { step_time: Duration::from_millis(1), ..Behaviour::default() }).await;
    let body = json!({"prompt": "a cat", "seed": 7, "stream": true, "partial_images": 2, "size": "64x64"});
    let events = stream(&server, &body).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let partial = "image_generation.partial_image";
    assert_eq!(names, [partial, partial, "image_generation.completed"]);
    assert!(events.iter().all(|(name, event)| event["type"] == **name));
    let plain: Value = ask(&server, &json!({"prompt": "a cat", "seed": 7})).await.json().await.unwrap();
    let image = pixels_of(&plain["data"][0]["b64_json"]);
    assert_eq!(pixels_of(&events[2].1["b64_json"]), image);
    let row = 64 * 3;
    for (index, (_, event)) in events[..2].iter().enumerate() {
        assert_eq!(event["partial_image_index"], index);
        // 64 tokens in 8 rows of 8 pixels; the partial images have a third and two thirds of the tokens.
        let (partial, whole) = (pixels_of(&event["b64_json"]), [2, 5][index] * 8 * row);
        assert_eq!(partial[..whole], image[..whole]);
        assert_ne!(partial[whole + 8 * row..], image[whole + 8 * row..]);
    }
    let usage = &events[2].1["usage"];
    assert_eq!(
        (&usage["output_tokens"], &usage["total_tokens"]),
        (&json!(64), &json!(64 + tokenizer().encode("a cat", 15).unwrap().ids.len()))
    );
    let best =
        json!({"prompt": "a cat", "seed": 7, "stream": true, "partial_images": 2, "n": 2, "best_of": 5});
    let best: Vec<String> = stream(&server, &best).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(best, ["image_generation.completed"; 2], "it is decided at the end which samples are shown");
}

#[tokio::test]
async fn a_stream_ends_with_an_error_where_its_generation_does() {
    let failing = Behaviour { nan_for_samples: Some(2), ..Behaviour::default() };
    let server = TestServer::start(failing).await;
    let body = json!({"prompt": "a cat", "n": 2, "stream": true, "partial_images": 1});
    let events = stream(&server, &body).await;
    let (name, event) = events.last().unwrap();
    assert_eq!((name.as_str(), &event["error"]["type"]), ("error", &json!("server_error")));
    let slow =
        TestServer::start_with(slow(), Options { images_timeout: Duration::from_millis(200), ..options() })
            .await;
    let events = stream(&slow, &json!({"prompt": "a cat", "stream": true})).await;
    assert_eq!(events[0].1["error"]["code"], "unavailable");
    slow.until("rows freed", async || slow.probe.rows.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn models_can_be_listed_and_looked_up() {
    let server = TestServer::start(Behaviour::default()).await;
    for base in ["/v1", ""] {
        let list: Value = server.get(&format!("{base}/models")).await.json().await.unwrap();
        assert_eq!(list["object"], "list");
        let entry = &list["data"][0];
        assert_eq!((&entry["id"], &entry["object"]), (&json!("test"), &json!("model")));
        assert!(entry["created"].is_u64() && entry["owned_by"].is_string());
        let shown: Value = server.get(&format!("{base}/models/test")).await.json().await.unwrap();
        assert_eq!(shown, *entry);
        let (code, message, field) = error(server.get(&format!("{base}/models/dall-e/2")).await, 404).await;
        assert_eq!((code.as_str(), field.as_deref()), ("not_found", Some("model")));
        assert!(message.contains("test"), "{message}");
    }
}

/// Requests that existing programs send by default, as their code builds them.
#[tokio::test]
async fn default_requests_of_existing_programs_get_images() {
    let server = TestServer::start(Behaviour::default()).await;
    for (program, path, body) in [
        (
            "Open WebUI",
            "/v1/images/generations",
            json!({"model": "dall-e-2", "prompt": "a cat", "n": 1, "size": "512x512", "response_format": "b64_json"}),
        ),
        (
            "Open WebUI with a GPT model",
            "/v1/images/generations",
            json!({"model": "gpt-image-1", "prompt": "a cat", "n": 1}),
        ),
        (
            "Nextcloud",
            "/v1/images/generations",
            json!({"prompt": "a cat", "size": "1024x1024", "n": 1, "model": "dall-e-2"}),
        ),
        ("a base URL without /v1", "/images/generations", json!({"prompt": "a cat", "model": "dall-e-3"})),
        (
            "openai-python with everything set",
            "/v1/images/generations",
            json!({"prompt": "a cat", "background": "auto", "model": "gpt-image-1", "moderation": "auto", "n": 1,
                "output_compression": 100, "output_format": "png", "partial_images": 0, "quality": "auto",
                "response_format": "b64_json", "size": "auto", "stream": false, "style": "vivid", "user": "u"}),
        ),
    ] {
        let answer = server.post(path, &body).header("Authorization", "Bearer none").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{program}");
        let answer: Value = answer.json().await.unwrap();
        let image = &answer["data"][0];
        assert!(image["url"].is_null(), "{program}: these programs prefer a URL, and fetch it");
        let side = match body["size"].as_str() {
            None | Some("auto") => 64,
            Some(size) => size.split('x').next().unwrap().parse().unwrap(),
        };
        assert_eq!(pixels_of(&image["b64_json"]).len(), side * side * 3, "{program}");
    }
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
