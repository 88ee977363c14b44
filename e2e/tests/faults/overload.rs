//! More requests than the server can take.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::fixture::environment;
use crate::fixture::server::Server;
use crate::requests::{body, client, create, follow, generate};
use crate::times;

#[tokio::test]
async fn under_overload_every_client_gets_its_image_in_the_end() -> Result<()> {
    // One generation at a time, of a model that takes a moment for it.
    let model = environment::shipped_model()?;
    let server = Server::start(&model, &["--queue", "4", "--max-rows", "9"]).await?;
    let client = client()?;
    let count = times(40, 200);
    let mut bodies = Vec::new();
    for seed in 0..count {
        bodies.push(body(&server, &[1, 2, 3], 9, seed as u64).await?);
    }
    let all = try_join_all(bodies.iter().map(async |body| {
        let (events, tries) = create(&client, &server, body).await?;
        let (tokens, last) = follow(&client, &server, &events).await?;
        ensure!(last["type"] == "finished", "{last}");
        Ok((tokens, tries))
    }))
    .await?;
    let busy: usize = all.iter().map(|(_, tries)| tries - 1).sum();
    ensure!(busy > 0, "the queue was never full");
    assert_eq!(server.metric("dalle_busy_total").await?, busy as f64);
    assert_eq!(server.metric("dalle_failed_total").await?, 0.0);
    for index in [0, count / 2, count - 1] {
        assert_eq!(generate(&client, &server, &bodies[index]).await?, all[index].0, "as when it is alone");
    }
    Ok(())
}
