//! All routes, and every kind of invalid request.

use dalle_backend::Options;
use dalle_shared::{MAX_SAMPLES, ModelManifest, sha256_hex};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::sampler::Behaviour;
use crate::server::{PATIENCE, TestServer, error, model_hash, options, request};
use crate::sse::Events;

#[tokio::test]
async fn files_in_the_manifest_can_be_downloaded() {
    let server = TestServer::start(Behaviour::default()).await;
    let manifest: ModelManifest = server.get("/v1/model").await.json().await.unwrap();
    assert_eq!(manifest.hash, model_hash());
    for file in &manifest.files {
        let response = server.get(&file.url).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("cache-control").contains("immutable"));
        assert_eq!(header("content-length"), file.bytes.to_string());
        let etag = header("etag");
        assert_eq!(sha256_hex(&response.bytes().await.unwrap()), file.sha256);

        let plain = format!("/v1/model/files/{}", file.name);
        assert_eq!(server.get(&plain).await.headers()["cache-control"], "no-cache");
        let known = server.client.get(server.url(&plain)).header("If-None-Match", etag).send().await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        let old = server.get(&format!("{plain}?sha256={}", sha256_hex(b"old"))).await;
        assert!(error(old, 409).await.1.contains(&file.sha256));
    }
    let (code, message, _) = error(server.get("/v1/model/files/model.safetensors").await, 404).await;
    assert_eq!(code, "not_found");
    assert!(message.contains("decoder.safetensors"), "{message}");
}

#[tokio::test]
async fn each_invalid_field_is_named() {
    let server = TestServer::start(Behaviour::default()).await;
    let with = |field: &str, value: Value| {
        let mut body = request(1, 1);
        body[field] = value;
        body
    };
    for (body, field) in [
        (with("colour", json!("red")), "colour"),
        (with("text", json!([1, 259])), "text"),
        (with("text", json!(vec![1; 16])), "text"),
        (with("text", json!([1, "x"])), "text[1]"),
        (with("text", json!([-1])), "text[0]"),
        (with("samples", json!(0)), "samples"),
        (with("samples", json!(MAX_SAMPLES + 1)), "samples"),
        (with("seed", json!(-1)), "seed"),
        (with("temperature", json!(-0.5)), "temperature"),
        (with("temperature", json!("hot")), "temperature"),
        (with("top_k", json!(0)), "top_k"),
        (with("top_k", json!(4097)), "top_k"),
        (with("top_p", json!(1.5)), "top_p"),
        (with("guidance", json!(-1)), "guidance"),
        (with("best_of", json!(0)), "best_of"),
        (with("best_of", json!(33)), "best_of"),
        (with("guidance", json!(20.5)), "guidance"),
        (with("prefix", json!([1, 4096])), "prefix"),
        (with("prefix", json!(vec![1; 65])), "prefix"),
        (with("prefix", json!([1, 65536])), "prefix[1]"),
        (with("prefix", json!("AAAA")), "prefix"),
        (json!({ "model": model_hash() }), "text"),
        (json!({ "text": [1] }), "model"),
    ] {
        let (code, message, named) = error(server.ask(&body).await, 400).await;
        assert_eq!((code.as_str(), named.as_deref()), ("invalid_request", Some(field)), "{body}: {message}");
    }
    // Values at the limits are valid.
    for (field, value) in [
        ("text", json!([])),
        ("text", json!(vec![258; 15])),
        ("samples", json!(MAX_SAMPLES)),
        ("seed", json!(u64::MAX)),
        ("temperature", json!(0)),
        ("top_k", json!(4096)),
        ("top_p", json!(1.0)),
        ("guidance", json!(20)),
        ("best_of", json!(32)),
        ("prefix", json!([])),
        ("prefix", json!(vec![4095; 64])),
    ] {
        server.create(&with(field, value)).await;
    }
}

#[tokio::test]
async fn guidance_that_needs_more_rows_than_there_are_is_refused() {
    let server = TestServer::start_with(Behaviour::default(), Options { max_rows: 9, ..options() }).await;
    let guided = |samples: usize| {
        let mut body = request(1, samples);
        body["guidance"] = json!(3);
        body
    };
    let (_, message, field) = error(server.ask(&guided(5)).await, 400).await;
    assert_eq!(field.as_deref(), Some("samples"));
    assert!(message.contains("at most 4 with guidance"), "{message}");
    server.create(&guided(4)).await;
}

#[tokio::test]
async fn a_wrong_model_hash_is_a_conflict_that_names_the_served_model() {
    let server = TestServer::start(Behaviour::default()).await;
    let mut body = request(1, 1);
    body["model"] = json!("another");
    // Ids of another model have no meaning here, so they are not validated.
    body["text"] = json!([100_000]);
    let (code, message, field) = error(server.ask(&body).await, 409).await;
    assert_eq!((code.as_str(), field.as_deref()), ("wrong_model", Some("model")));
    assert!(message.contains(&model_hash()) && message.contains("another"), "{message}");
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_type() {
    let server = TestServer::start(Behaviour::default()).await;
    let url = server.url("/v1/generations");
    let post =
        |kind: &'static str, body: Vec<u8>| server.client.post(&url).header("content-type", kind).body(body);
    for size in [64 * 1024 + 1, 1 << 20, 3 << 20] {
        let (code, message, _) =
            error(post("application/json", vec![b' '; size]).send().await.unwrap(), 413).await;
        assert_eq!(code, "too_large");
        assert!(message.contains("65536"), "the message names the limit: {message}");
    }
    let mut fits = request(1, 1).to_string().into_bytes();
    fits.resize(64 * 1024, b' ');
    assert_eq!(
        post("application/json; charset=utf-8", fits).send().await.unwrap().status(),
        StatusCode::CREATED
    );

    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let (code, message, _) =
            error(post(kind, request(1, 1).to_string().into()).send().await.unwrap(), 415).await;
        assert_eq!(code, "unsupported_media_type");
        assert!(message.contains("application/json"), "{message}");
    }
    let none = server.client.post(&url).body("{}").send().await.unwrap();
    error(none, 415).await;
    for (encoding, body) in [("gzip", b"\x1f\x8b".to_vec()), ("br", request(1, 1).to_string().into_bytes())] {
        let encoded = post("application/json", body).header("content-encoding", encoding);
        let (code, message, _) = error(encoded.send().await.unwrap(), 415).await;
        assert_eq!(code, "unsupported_media_type");
        assert!(message.contains("uncompressed") && message.contains(encoding), "{message}");
    }
    let identity = post("application/json", request(1, 1).to_string().into_bytes());
    let identity = identity.header("content-encoding", "identity").send().await.unwrap();
    assert_eq!(identity.status(), StatusCode::CREATED);
    for rubbish in ["", "{", "null", "[1]", "\u{1}", "{} {}"] {
        let (code, ..) = error(post("application/json", rubbish.into()).send().await.unwrap(), 400).await;
        assert_eq!(code, "invalid_request");
    }
    // An array of the fields' values is not accepted as an object.
    let positional = json!([model_hash(), [1]]).to_string();
    let (_, message, _) = error(post("application/json", positional.into()).send().await.unwrap(), 400).await;
    assert!(message.contains("object"), "{message}");
}

#[tokio::test]
async fn unknown_urls_and_methods_are_json_errors() {
    let server = TestServer::start(Behaviour::default()).await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/generations/x/y",
        "/nothing",
        "/v1/generations/zzz",
        "/v1/generations/zzz/events",
    ] {
        assert_eq!(error(server.get(path).await, 404).await.0, "not_found", "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/generations"),
        (Method::PUT, "/v1/generations"),
        (Method::POST, "/v1/model"),
        (Method::DELETE, "/v1/images/generations"),
        (Method::PATCH, "/v1/generations/zzz"),
    ] {
        let response = server.client.request(method.clone(), server.url(path)).send().await.unwrap();
        assert!(response.headers().contains_key("allow"), "{method} {path}");
        assert_eq!(error(response, 405).await.0, "method_not_allowed", "{method} {path}");
    }
    let posted = server.post("/v1/nothing", &json!({})).send().await.unwrap();
    assert_eq!(error(posted, 404).await.0, "not_found");
}

#[tokio::test]
async fn malformed_urls_are_json_errors() {
    let server = TestServer::start(Behaviour::default()).await;
    let created = server.create(&request(1, 1)).await;
    for path in [
        "/v1/generations/%ff",
        "/v1/generations/%ff/events",
        "/v1/model/files/%ff",
        "/v1/model/files/config.json?sha256=1&sha256=2",
        &format!("{}?after=0&after=1", created.events),
    ] {
        assert_eq!(error(server.get(path).await, 400).await.0, "invalid_request", "{path}");
    }
    assert_eq!(error(server.delete("%ff").await, 400).await.0, "invalid_request");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = TestServer::start(Behaviour::default()).await;
    let silent = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, silent.peek(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0))), "expected the end of the connection, got {read:?}");
}

#[tokio::test]
async fn only_configured_origins_may_use_it() {
    let origins = vec!["https://page.example".parse().unwrap()];
    let server = TestServer::start_with(Behaviour::default(), Options { origins, ..options() }).await;
    let call = |method: Method, origin: &'static str| {
        server.client.request(method, server.url("/v1/generations")).header("Origin", origin)
    };
    let preflight = |origin| {
        call(Method::OPTIONS, origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "content-type,last-event-id")
    };
    let allowed = preflight("https://page.example").send().await.unwrap();
    let header = |name: &str| allowed.headers()[name].to_str().unwrap().to_ascii_lowercase();
    assert_eq!(header("access-control-allow-origin"), "https://page.example");
    assert!(header("access-control-allow-methods").contains("delete"));
    let headers = header("access-control-allow-headers");
    assert!(headers.contains("content-type") && headers.contains("last-event-id"), "{headers}");
    let refused = preflight("https://evil.example").send().await.unwrap();
    assert!(!refused.headers().contains_key("access-control-allow-origin"));

    // The headers that OpenAI's client for JavaScript sends in a browser.
    let asked = "authorization,content-type,openai-organization,x-stainless-arch,x-stainless-lang,x-stainless-os,\
        x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-timeout,idempotency-key";
    let stainless = call(Method::OPTIONS, "https://page.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", asked);
    let stainless = stainless.send().await.unwrap();
    let allowed = stainless.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(asked.split(',').all(|name| allowed.contains(name)), "{allowed}");

    // Errors have the headers too; otherwise the page could not read them.
    let answer = call(Method::POST, "https://page.example").json(&json!({})).send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://page.example");
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap().to_ascii_lowercase();
    assert!(exposed.contains("retry-after"), "{exposed}");
    error(answer, 400).await;

    let closed = TestServer::start(Behaviour::default()).await;
    let asked =
        closed.client.get(closed.url("/v1/model")).header("Origin", "https://page.example").send().await;
    assert!(asked.unwrap().headers().keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = TestServer::start(Behaviour::default()).await;
    let created = server.create(&request(1, 3)).await;
    Events::of(server.get(&created.events).await).rest().await;
    error(server.get("/v1/nothing").await, 404).await;
    let invented = Method::from_bytes(b"FOO123").unwrap();
    error(server.client.request(invented, server.url("/v1/model")).send().await.unwrap(), 405).await;
    let text = server.get("/metrics").await.text().await.unwrap();
    // Other tests of this process count too.
    let value = |line: &str| -> f64 {
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    };
    assert!(value("dalle_tokens_sampled_total") >= 192.0);
    assert!(value(r#"dalle_requests_total{route="/v1/generations",method="POST",status="201"}"#) >= 1.0);
    assert!(value(r#"dalle_step_seconds_bucket{le="+Inf"}"#) >= 64.0);
    assert!(value("dalle_time_to_first_token_seconds_count") >= 1.0);
    assert!(value("dalle_queue_wait_seconds_count") >= 1.0);
    assert!(value("dalle_finished_total ") >= 1.0);
    assert!(value("dalle_connections ") >= 1.0, "at least this connection");
    assert_eq!(value(&format!(r#"dalle_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"))), 1.0);
    for name in [
        "dalle_queue_depth",
        "dalle_rows_running",
        "dalle_failed_total",
        "dalle_cancelled_total",
        "dalle_busy_total",
        "dalle_connections_refused_total",
        "dalle_engine_silence_seconds",
        "dalle_engine_stalled",
    ] {
        assert!(value(&format!("{name} ")) >= 0.0);
    }
    assert!(value(r#"dalle_requests_total{route="/v1/model",method="other",status="405"}"#) >= 1.0);
    assert!(!text.contains(&created.id) && !text.contains("FOO123"), "values from clients are not labels");
}
