//! Signals.

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Model, PATIENCE, Server, exit};

fn send(signal: &str, server: &Server) {
    assert!(
        Command::new("kill").args([signal, &server.process.id().to_string()]).status().unwrap().success()
    );
}

#[cfg(unix)]
#[tokio::test]
async fn exits_with_success_when_stopped() {
    let model = Model::new();
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut server = Server::start(model.folder.path());
        server.until_ready().await;
        send(signal, &server);
        assert_eq!(exit(&mut server.process).code(), Some(0), "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sighup_does_not_end_it_under_nohup() {
    let model = Model::new();
    let own = Server::command(model.folder.path());
    let mut command = Command::new("nohup");
    command.arg(own.get_program()).args(own.get_args()).stdout(std::process::Stdio::piped());
    let mut server = Server::start_command(command.stderr(std::process::Stdio::null()));
    server.until_ready().await;
    send("-HUP", &server);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(reqwest::get(server.url("/health/ready")).await.unwrap().status(), StatusCode::OK);
    send("-TERM", &server);
    assert_eq!(exit(&mut server.process).code(), Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    // 1024 steps of 288 rows: longer than this test.
    let mut config: Value = serde_json::from_slice(include_bytes!("../../../configs/tiny.json")).unwrap();
    config["image_size"] = 256.into();
    let model = Model::of(config.to_string().as_bytes());
    let mut command = Server::command(model.folder.path());
    command.args(["--drain", "3600", "--max-rows", "288", "--queue", "32", "--grace", "3600"]);
    let mut server = Server::start_command(command.stderr(std::process::Stdio::null()));
    server.until_ready().await;
    for seed in 0..32 {
        let body = json!({ "model": model.hash(), "text": [1], "samples": 9, "seed": seed });
        assert_eq!(server.post("/v1/generations", &body).await.status(), StatusCode::CREATED);
    }
    send("-TERM", &server);
    let begin = Instant::now();
    while reqwest::get(server.url("/health/ready")).await.unwrap().status().is_success() {
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(server.process.try_wait().unwrap().is_none(), "it is draining");
    send("-INT", &server);
    assert_eq!(exit(&mut server.process).code(), Some(1));
}
