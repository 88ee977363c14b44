//! A proxy that cuts connections, and clients that resume with `Last-Event-ID`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fixture::models;
use crate::fixture::server::Server;
use crate::requests::{Events, Tokens, body, client, generate};
use crate::times;

/// A proxy that cuts each connection after some bytes of the response.
struct Flaky {
    origin: String,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Flaky {
    async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (server, cuts) = (server.trim_start_matches("http://").to_owned(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            for number in 0usize.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let (server, counter) = (server.clone(), Arc::clone(&counter));
                // In the middle of the head, of an event, or between two. The longest event, of all tokens of four samples, fits
                // into the longest connections.
                let bytes = 150 + number * 7919 % 4900;
                tokio::spawn(async move { forward(client, &server, bytes, &counter).await.ok() });
            }
        });
        Ok(Self { origin, cuts, task })
    }
}

impl Drop for Flaky {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, server: &str, mut left: usize, cuts: &AtomicUsize) -> Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                count => server.write_all(&up[..count]).await?,
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                count => {
                    client.write_all(&down[..count.min(left)]).await?;
                    left = left.saturating_sub(count);
                    if left == 0 {
                        cuts.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// A generation through the proxy: every request is repeated until it succeeds, and the stream resumes after its last event.
async fn generate_through(
    client: &Client,
    proxy: &Flaky,
    body: &Value,
    key: &str,
) -> Result<(String, Tokens)> {
    let mut tries = 0..1000;
    let events = loop {
        ensure!(tries.next().is_some(), "the request never succeeded");
        let sent =
            client.post(format!("{}/v1/generations", proxy.origin)).header("Idempotency-Key", key).json(body);
        let Ok(response) = sent.send().await else { continue };
        ensure!(response.status() == StatusCode::CREATED, "{}", response.status());
        let Ok(created) = response.json::<Value>().await else { continue };
        break created["events"].as_str().unwrap_or_default().to_owned();
    };
    let (mut tokens, mut last) = (Tokens::default(), None::<u64>);
    loop {
        ensure!(tries.next().is_some(), "the stream never ended: {tokens:?}");
        let mut request = client.get(format!("{}{events}", proxy.origin));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let Ok(response) = request.send().await else { continue };
        if response.status() == StatusCode::NO_CONTENT {
            return Ok((events, tokens));
        }
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let mut stream = Events::of(response);
        while let Some(event) = stream.next().await {
            let number = event["seq"].as_u64();
            ensure!(number == Some(last.map_or(0, |last| last + 1)), "{event} after {last:?}");
            last = number;
            tokens.add(&event)?;
        }
    }
}

#[tokio::test]
async fn a_flaky_proxy_costs_neither_tokens_nor_generations() -> Result<()> {
    let model = crate::fixture::environment::shipped_model()?;
    let server = Server::start(&model, &[]).await?;
    let proxy = Flaky::start(&server.url("")).await?;
    let client = client()?;
    let count = times(15, 200);
    for seed in 0..count {
        let request = body(&server, &[1, 2, 3], 2 + seed % 3, seed as u64).await?;
        let (_, tokens) = generate_through(&client, &proxy, &request, &format!("key-{seed}")).await?;
        assert_eq!(tokens, generate(&client, &server, &request).await?, "seed {seed}");
    }
    ensure!(proxy.cuts.load(Ordering::Relaxed) > count, "only {:?} connections were cut", proxy.cuts);
    // One each through the proxy, however often its POST was repeated, and one each without.
    assert_eq!(server.metric("dalle_finished_total").await?, 2.0 * count as f64);
    // The fast model too, whose generations end while the connection is broken.
    let server = Server::start(&models::tiny()?, &[]).await?;
    let proxy = Flaky::start(&server.url("")).await?;
    let request = body(&server, &[4], 2, 9).await?;
    let (_, tokens) = generate_through(&client, &proxy, &request, "tiny").await?;
    assert_eq!(tokens, generate(&client, &server, &request).await?);
    Ok(())
}
