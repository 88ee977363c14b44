//! A server that is killed or stopped while it generates.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::fixture::models;
use crate::fixture::server::Server;
use crate::requests::{Events, Tokens, body, client, create};
use crate::times;

/// Reads a generation until its first sample has `count` tokens.
async fn first_tokens(server: &Server, body: &Value, count: usize) -> Result<Vec<u64>> {
    let client = client()?;
    let (events, _) = create(&client, server, body).await?;
    let mut stream = Events::of(client.get(server.url(&events)).send().await?);
    let mut tokens = Tokens::default();
    while tokens.0.first().is_none_or(|row| row.len() < count) {
        let event = stream.next().await;
        let event = event.ok_or_else(|| anyhow::anyhow!("the stream ended at {tokens:?}"))?;
        tokens.add(&event)?;
    }
    Ok(tokens.0.swap_remove(0)[..count].to_vec())
}

#[tokio::test]
async fn a_generation_continues_from_its_tokens_after_the_server_was_killed() -> Result<()> {
    let mut server = Server::start(&models::slow()?, &[]).await?;
    for seed in 0..times(1, 5) {
        let request = body(&server, &[1, 2, 3], 1, seed as u64).await?;
        let undisturbed = first_tokens(&server, &request, 24).await?;
        let seen = first_tokens(&server, &request, 12).await?;
        server.kill();
        server.revive().await?;
        let mut rest = request.clone();
        rest["prefix"] = serde_json::to_value(&seen)?;
        assert_eq!(first_tokens(&server, &rest, 24).await?, undisturbed);
    }
    Ok(())
}

#[tokio::test]
async fn a_step_that_takes_too_long_fails_its_generation_and_the_server_recovers() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--stall-timeout", "0.005"]).await?;
    let client = client()?;
    let request = body(&server, &[1, 2, 3], 9, 1).await?;
    let (events, _) = create(&client, &server, &request).await?;
    let mut stream = Events::of(client.get(server.url(&events)).send().await?);
    let mut last = Value::Null;
    while let Some(event) = stream.next().await {
        last = event;
    }
    assert_eq!((&last["type"], &last["error"]["code"]), (&"failed".into(), &"unavailable".into()), "{last}");
    let begin = Instant::now();
    // From now on the server knows how long a step takes.
    while client.get(server.url("/health/live")).send().await?.status() != 200 {
        ensure!(begin.elapsed() < Duration::from_secs(60), "it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first_tokens(&server, &body(&server, &[1, 2, 3], 1, 2).await?, 2).await?;
    Ok(())
}
