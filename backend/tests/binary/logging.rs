//! The content of the log.

use std::io::Read;
use std::process::Stdio;

use dalle_shared::GenerationCreated;
use serde_json::json;

use crate::fixture::{Model, Server};

#[tokio::test]
async fn generation_ids_are_not_logged() {
    let model = Model::new();
    let mut command = Server::command(model.folder.path());
    let mut server = Server::start_command(command.env("DALLE_LOG", "debug").stderr(Stdio::piped()));
    server.until_ready().await;
    let body = json!({ "model": model.hash(), "text": [1] });
    let created: GenerationCreated = server.post("/v1/generations", &body).await.json().await.unwrap();
    for path in [&created.events, &format!("/v1/generations/{}", created.id)] {
        reqwest::get(server.url(path)).await.unwrap().text().await.unwrap();
    }
    server.process.kill().unwrap();
    let mut log = String::new();
    server.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("/v1/generations/{id}/events"), "requests are logged: {log}");
    assert!(log.contains("started") && log.contains("job=0"), "jobs are logged: {log}");
    assert!(!log.contains(&created.id), "{log}");
}
