//! The Host check, and security headers.

use dalle_backend::Options;
use reqwest::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sampler::Behaviour;
use crate::server::{TestServer, error, options, request};

async fn named(server: &TestServer, host: &str) -> Response {
    server.client.get(server.url("/v1/model")).header("Host", host).send().await.unwrap()
}

#[tokio::test]
async fn dns_rebinding_is_refused() {
    let server = TestServer::start(Behaviour::default()).await;
    for host in ["evil.example", "evil.example:80"] {
        let (code, message, field) = error(named(&server, host).await, 400).await;
        assert_eq!((code.as_str(), field.as_deref()), ("invalid_request", Some("Host")));
        assert!(message.ends_with("--allow-host evil.example"), "the option takes no port: {message}");
    }
    for own in ["localhost", "127.0.0.1:1", "[::1]"] {
        assert_eq!(named(&server, own).await.status(), StatusCode::OK, "{own}");
    }

    let hosts = vec!["dalle.example.org".to_owned()];
    let proxied = TestServer::start_with(Behaviour::default(), Options { hosts, ..options() }).await;
    assert_eq!(named(&proxied, "dalle.example.org").await.status(), StatusCode::OK);
    assert_eq!(error(named(&proxied, "evil.example").await, 400).await.0, "invalid_request");
}

/// Sends a raw request and returns the response.
async fn raw(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_must_name_exactly_one_host() {
    let server = TestServer::start(Behaviour::default()).await;
    for (head, status) in [
        ("HTTP/1.1\r\nHost: localhost\r\n", "200"),
        ("HTTP/1.1\r\n", "400"),
        ("HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", "400"),
        ("HTTP/1.0\r\n", "200"),
    ] {
        let answer = raw(&server, &format!("GET /health/live {head}Connection: close\r\n\r\n")).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
    }
}

#[tokio::test]
async fn every_response_has_security_headers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<!doctype html>").unwrap();
    let site = Some(folder.path().to_owned());
    let server = TestServer::start_with(Behaviour::default(), Options { site, ..options() }).await;
    let created = server.create(&request(1, 1)).await;
    let responses = [
        server.get("/v1/model").await,
        server.get("/v1/model/files/config.json").await,
        server.get("/v1/nothing").await,
        server.get(&created.events).await,
        server.get("/health/live").await,
        server.get("/metrics").await,
        server.delete("x").await,
        server.client.put(server.url("/v1/model")).send().await.unwrap(),
        named(&server, "evil.example").await,
        server.get("/").await,
        server.get("/nothing.js").await,
    ];
    for response in responses {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let what = format!("{} {}", response.url(), response.status());
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{what}");
        let policy = header("cross-origin-resource-policy");
        assert!(matches!(policy, Some("same-origin" | "cross-origin")), "{what}: {policy:?}");
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{what}");
    }
    let header =
        async |path: &str, name: &str| server.get(path).await.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        header("/v1/model", "content-security-policy").await,
        "default-src 'none'; frame-ancestors 'none'"
    );
    // Pages of other origins can detect the API, so that they can report that it refuses them. They cannot embed the site.
    assert_eq!(header("/v1/model", "cross-origin-resource-policy").await, "cross-origin");
    assert_eq!(header("/", "cross-origin-resource-policy").await, "same-origin");
    assert!(header("/", "content-security-policy").await.contains("wasm-unsafe-eval"));
    assert!(header("/", "permissions-policy").await.contains("camera=()"));
    assert_eq!(header("/", "cross-origin-opener-policy").await, "same-origin");
}
