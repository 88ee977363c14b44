//! Clients that hold connections: they read nothing, or send their requests byte by byte.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::server::Server;
use crate::fixture::{PATIENCE, environment, models};
use crate::requests::{body, client, generate};
use crate::times;

/// Connects with a small receive buffer.
async fn connect(server: &Server) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(2048)?;
    let address = server.url("").trim_start_matches("http://").parse()?;
    Ok(socket.connect(address).await?)
}

/// The path of the largest file of the page.
fn largest_file() -> Result<String> {
    let files = environment::site()?.read_dir()?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.metadata().ok()?.len(), entry.file_name().into_string().ok()?))
    });
    let (_, name) = files.max().context("the page has no files")?;
    Ok(format!("/{name}"))
}

/// Probes answer while `held` clients hold connections, and afterwards the server works as before.
async fn probes_answer(server: &Server, held: Vec<TcpStream>) -> Result<()> {
    let client = client()?;
    let (mut probes, mut slow) = (0, 0);
    for _ in 0..times(20, 200) {
        for path in ["/health/live", "/health/ready", "/metrics"] {
            let begin = Instant::now();
            let status = client.get(server.url(path)).send().await?.status();
            ensure!(status == 200, "{path}: {status} with {} connections held", held.len());
            probes += 1;
            slow += usize::from(begin.elapsed() > Duration::from_secs(2));
        }
    }
    // A busy machine may delay a few.
    ensure!(slow * 10 <= probes, "{slow} of {probes} probes took more than 2 s");
    let begin = Instant::now();
    while client.get(server.url("/v1/model")).send().await?.status() != 200 {
        ensure!(begin.elapsed() < PATIENCE, "the connections are still held");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    generate(&client, server, &body(server, &[1, 2, 3], 1, 1).await?).await?;
    drop(held);
    Ok(())
}

#[tokio::test]
async fn clients_that_read_nothing_are_disconnected_and_probes_answer() -> Result<()> {
    let most = times(40, 900);
    let limit = most.to_string();
    let options = ["--write-timeout", "2", "--max-connections", &limit];
    let server = Server::start(&models::tiny()?, &options).await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", largest_file()?);
    let mut held = Vec::new();
    for _ in 0..most + 20 {
        let mut client = connect(&server).await?;
        // Beyond the limit the server may have closed the connection already.
        let _ = client.write_all(request.as_bytes()).await;
        held.push(client);
    }
    probes_answer(&server, held).await
}

#[tokio::test]
async fn requests_that_arrive_byte_by_byte_end_and_probes_answer() -> Result<()> {
    let most = times(40, 900);
    let limit = most.to_string();
    let server = Server::start(&models::tiny()?, &["--max-connections", &limit]).await?;
    let mut held = Vec::new();
    for _ in 0..most + 20 {
        let mut client = connect(&server).await?;
        let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await;
        held.push(client);
    }
    let (mut slowest, begin) = (connect(&server).await?, Instant::now());
    let dripping = async {
        let mut byte = [0];
        loop {
            let closed = slowest.write_all(b"x").await.is_err();
            let read = tokio::time::timeout(Duration::from_millis(500), slowest.read(&mut byte)).await;
            if closed || matches!(read, Ok(Ok(0) | Err(_))) {
                return begin.elapsed();
            }
        }
    };
    let (probed, lasted) = tokio::join!(probes_answer(&server, held), dripping);
    probed?;
    ensure!(lasted < Duration::from_secs(30), "a request that never ends was held for {lasted:?}");
    Ok(())
}
