//! Requests to the server, and the events of a generation.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::fixture::PATIENCE;
use crate::fixture::server::Server;

/// A client without shared connections.
pub fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build()?)
}

/// A request for a generation of the served model.
pub async fn body(server: &Server, text: &[u32], samples: usize, seed: u64) -> Result<Value> {
    let hash = server.json("/v1/model").await?["hash"].clone();
    Ok(json!({ "model": hash, "text": text, "samples": samples, "seed": seed, "temperature": 1 }))
}

/// Sends a request until the queue has room, waiting as the server says. Returns the path of the events, and the number of tries.
pub async fn create(client: &Client, server: &Server, body: &Value) -> Result<(String, usize)> {
    for tries in 1..=1000 {
        let response = client.post(server.url("/v1/generations")).json(body).send().await?;
        match response.status() {
            StatusCode::CREATED => {
                let created: Value = response.json().await?;
                return Ok((created["events"].as_str().context("no events")?.to_owned(), tries));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = response.headers().get("retry-after").context("429 without Retry-After")?;
                tokio::time::sleep(Duration::from_secs(wait.to_str()?.parse()?)).await;
            }
            status => anyhow::bail!("{status}: {}", response.text().await?),
        }
    }
    anyhow::bail!("the queue never had room")
}

/// The events of a stream, one after the other.
pub struct Events {
    response: Response,
    unread: Vec<u8>,
}

impl Events {
    /// The events of a response.
    pub fn of(response: Response) -> Self {
        Self { response, unread: Vec::new() }
    }

    /// The next event. None at the end, also if the connection breaks.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.unread.drain(..end + 2).collect();
                let frame = String::from_utf8_lossy(&frame).into_owned();
                let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(event) = data.and_then(|data| serde_json::from_str(data).ok()) {
                    return Some(event);
                }
                continue;
            }
            self.unread.extend_from_slice(&self.response.chunk().await.ok()??);
        }
    }
}

/// The tokens of each sample, as events arrive.
#[derive(Debug, Default, PartialEq)]
pub struct Tokens(pub Vec<Vec<u64>>);

impl Tokens {
    /// Adds those of an event.
    pub fn add(&mut self, event: &Value) -> Result<()> {
        if event["type"] != "tokens" {
            return Ok(());
        }
        let rows: Vec<Vec<u64>> = serde_json::from_value(event["tokens"].clone())?;
        self.0.resize(rows.len(), Vec::new());
        for (row, new) in self.0.iter_mut().zip(rows) {
            ensure!(event["start"] == row.len(), "a gap before {event}");
            row.extend(new);
        }
        Ok(())
    }
}

/// All tokens of a generation, and its last event.
pub async fn follow(client: &Client, server: &Server, events: &str) -> Result<(Tokens, Value)> {
    let mut stream = Events::of(client.get(server.url(events)).send().await?);
    let (mut tokens, mut last) = (Tokens::default(), Value::Null);
    while let Some(event) = stream.next().await {
        tokens.add(&event)?;
        last = event;
    }
    Ok((tokens, last))
}

/// The tokens of a generation that must finish.
pub async fn generate(client: &Client, server: &Server, body: &Value) -> Result<Tokens> {
    let (events, _) = create(client, server, body).await?;
    let (tokens, last) = follow(client, server, &events).await?;
    ensure!(last["type"] == "finished", "{last}");
    Ok(tokens)
}
