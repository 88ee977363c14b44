//! Stopping a generation frees the engine.

use anyhow::{Result, ensure};

use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::server::Server;

#[tokio::test]
async fn stop_frees_the_engine_for_the_next_generation() -> Result<()> {
    // Nine samples fill the engine, so the next generation starts only when they are cancelled. The grace time is an hour, so the
    // server does not cancel them itself.
    let server = Server::start(&models::slow()?, &["--max-rows", "9", "--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("nine of them", 9, 1).await?;
    page.until_cells(3).await?;
    let first = page.generation().await?;
    assert_eq!(server.metric("dalle_rows_running").await?, 9.0);

    page.press("stop").await?;
    page.until_state("cancelled").await?;
    server.until_metric("dalle_rows_running", |rows| rows == 0.0).await?;
    assert_eq!(server.state(&first).await?, "cancelled");
    let sampled = server.metric("dalle_tokens_sampled_total").await?;
    ensure!(sampled < 9.0 * 256.0, "all {sampled} tokens were sampled before it was stopped");
    ensure!(page.text("status").await?.unwrap_or_default().starts_with("Stopped at"));

    page.generate("one more", 1, 2).await?;
    page.until_cells(1).await?;
    let second = page.generation().await?;
    ensure!(second != first);
    assert_eq!(server.state(&second).await?, "running");
    assert_eq!(server.metric("dalle_rows_running").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_reload_starts_nothing_that_was_stopped() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("no more", 1, 1).await?;
    page.until_cells(1).await?;
    page.press("stop").await?;
    page.until_state("cancelled").await?;
    page.reload().await?;
    page.until_state("idle").await?;
    page.until_decoder_ready().await?;
    assert_eq!(page.state().await?.as_deref(), Some("idle"), "although its link is still in the URL");
    Ok(())
}

#[tokio::test]
async fn a_closed_page_frees_the_engine_after_the_grace_time() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--grace", "1"]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("left alone", 2, 1).await?;
    page.until_cells(1).await?;
    let id = page.generation().await?;
    drop(page);
    server.until_metric("dalle_rows_running", |rows| rows == 0.0).await?;
    assert_eq!(server.state(&id).await?, "cancelled");
    Ok(())
}
