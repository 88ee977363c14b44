//! A request whose logits are NaN beside healthy ones.

use std::fs;
use std::path::Path;

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

/// Gives an embedding values that are finite, so that the file loads, but whose LayerNorm overflows f32.
fn poison(path: &Path) -> Result<()> {
    let file = fs::read(path)?;
    let (length, rest) = file.split_first_chunk().context("no header")?;
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length))?);
    let (mut header, mut data): (Value, _) = (serde_json::from_slice(header)?, data.to_vec());
    // The trained values become others. Of types with two bytes, only BF16 has values that are large enough.
    let embedding = &mut header["embed.text"];
    ensure!(embedding["dtype"] == "F16", "{embedding}");
    embedding["dtype"] = "BF16".into();
    let width = embedding["shape"][1].as_u64().context("no shape")? as usize;
    let start = embedding["data_offsets"][0].as_u64().context("no offsets")? as usize;
    let large = ((3e38f32.to_bits() >> 16) as u16).to_le_bytes();
    for index in 0..width {
        data[start + 2 * (POISON as usize * width + index)..][..2].copy_from_slice(&large);
    }
    let mut header = header.to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat())?;
    Ok(())
}

#[tokio::test]
async fn nan_logits_end_the_request_that_has_them_and_no_other() -> Result<()> {
    let work = tempfile::tempdir()?;
    let model = work.path().join("model");
    copy(&models::tiny()?, &model)?;
    poison(&model.join("model.safetensors"))?;

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
