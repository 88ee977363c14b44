//! A request whose logits are NaN beside healthy ones.

use std::fs;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::damaged::copy;
use crate::fixture::models;
use crate::fixture::server::Server;
use crate::requests::{body, client, create, follow, generate};
use crate::times;

/// The text id whose embedding overflows.
const POISON: u32 = 7;

#[tokio::test]
async fn nan_logits_end_the_request_that_has_them_and_no_other() -> Result<()> {
    let work = tempfile::tempdir()?;
    let model = work.path().join("model");
    copy(&models::tiny()?, &model)?;
    let path = model.join("model.safetensors");
    let mut file = fs::read(&path)?;
    let header = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    let json: Value = serde_json::from_slice(&file[8..8 + header])?;
    let embedding = &json["embed.text"];
    let width = embedding["shape"][1].as_u64().context("no embedding")? as usize;
    let start = 8 + header + embedding["data_offsets"][0].as_u64().context("no offsets")? as usize;
    for index in 0..width {
        // Finite, so that it loads, but its LayerNorm overflows.
        file[start + 4 * (POISON as usize * width + index)..][..4].copy_from_slice(&3e38f32.to_le_bytes());
    }
    fs::write(&path, file)?;

    let server = Server::start(&model, &[]).await?;
    let client = client()?;
    let healthy = body(&server, &[1, 2], 3, 5).await?;
    let alone = generate(&client, &server, &healthy).await?;
    let rounds = times(5, 100);
    for _ in 0..rounds {
        let poisoned = body(&server, &[2, POISON], 2, 5).await?;
        let poisoned = async {
            let (events, _) = create(&client, &server, &poisoned).await?;
            anyhow::Ok(follow(&client, &server, &events).await?.1)
        };
        let others = try_join_all((0..4).map(|_| generate(&client, &server, &healthy)));
        let (last, others) = tokio::join!(poisoned, others);
        let last = last?;
        assert_eq!(last["type"], "failed");
        ensure!(last["error"]["message"].as_str().is_some_and(|text| text.contains("NaN")), "{last}");
        ensure!(others?.iter().all(|tokens| *tokens == alone), "the others are as when they are alone");
    }
    assert_eq!(server.metric("dalle_failed_total").await?, rounds as f64);
    Ok(())
}
