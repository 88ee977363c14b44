//! Serving the page from a folder.

use std::path::Path;

use dalle_backend::Options;
use reqwest::StatusCode;

use crate::sampler::Behaviour;
use crate::server::{TestServer, error, options};

fn build(folder: &Path) {
    std::fs::create_dir(folder.join("build")).unwrap();
    for (name, content) in [
        ("index.html", "<!doctype html><title>page</title>"),
        ("config.json", r#"{"backend": ""}"#),
        ("page_bg.wasm", "plain wasm"),
        ("page_bg.wasm.gz", "compressed wasm"),
        ("page.js", "export {}"),
        ("build/page-1a2b.js", "export {}"),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

#[tokio::test]
async fn the_page_is_served_with_types_policy_and_revalidation() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let site = Some(folder.path().to_owned());
    let server = TestServer::start_with(Behaviour::default(), Options { site, ..options() }).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/config.json", "application/json"),
        ("/page.js", "text/javascript"),
        ("/page_bg.wasm", "application/wasm"),
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type").split(';').next(), Some(kind), "{path}");
        assert_eq!(header("cache-control"), "no-cache");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        assert!(
            policy.contains("'wasm-unsafe-eval'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        let etag = header("etag");
        let again = server.client.get(server.url(path)).header("If-None-Match", etag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    let hashed = server.get("/build/page-1a2b.js").await;
    assert_eq!(hashed.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert!(hashed.headers().contains_key("content-security-policy"));
    let missing = server.get("/build/page-0000.js").await;
    assert_eq!(
        (missing.status(), &missing.headers()["cache-control"]),
        (StatusCode::NOT_FOUND, &"no-cache".parse().unwrap())
    );
    assert_eq!(server.get("/page_bg.wasm").await.text().await.unwrap(), "plain wasm");
    let gzip = server
        .client
        .get(server.url("/page_bg.wasm"))
        .header("Accept-Encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    assert_eq!(gzip.headers()["content-type"], "application/wasm");
    assert_eq!(gzip.text().await.unwrap(), "compressed wasm");

    assert_eq!(server.get("/nothing.js").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get("/..%2f..%2fetc/passwd").await.status(), StatusCode::NOT_FOUND);
    error(server.get("/v1/nothing").await, 404).await;
    // A name or path that is too long, a missing folder, and a path that must not be redirected to the host `nowhere`.
    for path in [&"a".repeat(256), &"a/".repeat(4000), "page.js/x", "/nowhere", "%00"] {
        let (code, message, _) = error(server.get(&format!("/{path}")).await, 404).await;
        assert_eq!(code, "not_found");
        assert!(message.len() < 300, "{message}");
    }
}
