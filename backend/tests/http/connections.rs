//! Clients that hold connections without using them.

use std::path::Path;
use std::time::Duration;

use dalle_backend::Options;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::sampler::Behaviour;
use crate::server::{PATIENCE, TestServer, error, options, slow};

/// Size of the large file in bytes, more than the system buffers for a client.
const LARGE: usize = 32 << 20;

fn large_file(folder: &Path) {
    std::fs::write(folder.join("large.bin"), vec![7; LARGE]).unwrap();
}

/// Requests the large file, retrying while earlier connections still count against the limit, and reads only the status 200. The
/// client's receive buffer has `buffer` bytes: the system reports progress only after a sixteenth of it has been read.
async fn ask_for_large_file(server: &TestServer, buffer: u32) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        let mut stream = socket.connect(server.address().parse().unwrap()).await.unwrap();
        let request = b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        if status.ends_with(b"200") {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads to the end of the connection, however it ends. The first `slowly` reads are of 256 KiB, half a second apart.
async fn read_all(mut stream: TcpStream, slowly: usize) -> usize {
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    for read in 0.. {
        let most = if read < slowly { 256 << 10 } else { buffer.len() };
        match stream.read(&mut buffer[..most]).await {
            Ok(count) if count > 0 => total += count,
            _ => break,
        }
        if read < slowly {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    total
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    large_file(folder.path());
    let options = Options {
        site: Some(folder.path().to_owned()),
        // Well above the pause between two slow reads, even on a busy machine, but below their total time.
        write_timeout: Duration::from_secs(8),
        max_connections: 2,
        ..options()
    };
    let server = TestServer::start_with(Behaviour::default(), options).await;
    let silent = ask_for_large_file(&server, 4096).await;
    let reading = read_all(ask_for_large_file(&server, 1 << 20).await, 24);
    let reading = tokio::spawn(reading);
    error(server.get("/v1/model").await, 503).await;
    server
        .until("a free connection", async || server.get("/v1/model").await.status() == StatusCode::OK)
        .await;
    assert!(!reading.is_finished(), "the slow client is still reading");
    assert!(read_all(silent, 0).await < LARGE, "it received less than the file");
    assert!(reading.await.unwrap() > LARGE, "head and file");
}

#[tokio::test]
async fn health_and_metrics_answer_when_all_connections_are_taken() {
    let max_connections = 3;
    let server = TestServer::start_with(Behaviour::default(), Options { max_connections, ..options() }).await;
    // More than the limit, because connections of earlier requests may still count.
    let mut silent = Vec::new();
    for _ in 0..2 * max_connections {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let busy = async || server.get("/v1/model").await.status() == StatusCode::SERVICE_UNAVAILABLE;
    server.until("all connections taken", busy).await;
    for _ in 0..100 {
        for path in ["/health/live", "/health/ready", "/metrics"] {
            assert_eq!(server.get(path).await.status(), StatusCode::OK, "{path}");
        }
    }
    let busy = server.get("/v1/model").await;
    assert!(busy.headers().contains_key("retry-after"));
    let (code, message, _) = error(busy, 503).await;
    assert_eq!(code, "unavailable");
    assert!(message.contains("no free connection"), "{message}");
    drop(silent);
    server.until("a free place", async || server.get("/v1/model").await.status() == StatusCode::OK).await;
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let connections_per_address = Some(2);
    let options = Options { connections_per_address, ..options() };
    let server = TestServer::start_with(Behaviour::default(), options).await;
    let connect = async || {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let sent = stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
        (sent.is_ok() && matches!(read, Ok(1))).then_some(stream)
    };
    // Connections of earlier requests may still count against the limit.
    let served = async || loop {
        if let Some(stream) = connect().await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let (first, _second) = (served().await, served().await);
    assert!(connect().await.is_none(), "the third is closed");
    drop(first);
    tokio::time::timeout(PATIENCE, served()).await.unwrap();
}

#[tokio::test]
async fn an_admin_address_has_health_and_metrics_and_the_public_one_only_health() {
    let server = TestServer::start_with_admin(Behaviour::default(), options()).await;
    let admin = async |path: &str| {
        server.client.get(format!("{}{path}", server.admin.as_ref().unwrap())).send().await.unwrap()
    };
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(admin(path).await.status(), StatusCode::OK, "{path}");
    }
    error(admin("/v1/model").await, 404).await;
    assert_eq!(server.get("/health/live").await.status(), StatusCode::OK);
    error(server.get("/metrics").await, 404).await;
}

#[tokio::test]
async fn bytes_after_a_request_do_not_hide_that_its_client_left() {
    let server = TestServer::start(slow()).await;
    let body = r#"{"prompt": "a cat", "n": 4}"#;
    let request = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let rows = || server.probe.rows.load(std::sync::atomic::Ordering::SeqCst);
    server.until("running", async || rows() == 4).await;
    drop(stream);
    server.until("rows freed", async || rows() == 0).await;
}
