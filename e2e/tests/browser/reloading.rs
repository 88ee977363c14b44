//! A reload during a generation loses nothing.

use anyhow::{Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::picture::{self, TOLERANCE};
use crate::fixture::server::Server;
use crate::fixture::{LONG, models};

const CREATED: &str = r#"dalle_requests_total{route="/v1/generations",method="POST",status="201"}"#;

#[tokio::test]
async fn a_reload_resumes_the_running_generation() -> Result<()> {
    let model = models::slow()?;
    // Longer than any reload, even on a slow machine.
    let server = Server::start(&model, &["--grace", "120"]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("stay with me", 3, 11).await?;
    let before = page.until_cells(5).await?;
    let id = page.generation().await?;
    ensure!(before.len() < 256, "the generation was over before the reload");

    page.reload().await?;
    page.until_state("running").await?;
    assert_eq!(server.state(&id).await?, "running");
    let after = page.until_cells(before.len()).await?;
    assert_eq!(after[..before.len()], before, "the tokens before the reload are still there");
    let caption: String = page.browser.js("return document.getElementById('caption').value", ()).await?;
    assert_eq!(caption, "stay with me");

    page.until_state_within(LONG, "finished").await?;
    assert_eq!(page.generation().await?, id, "it is the same generation");
    assert_eq!(server.metric(CREATED).await?, 1.0, "nothing was asked for twice");
    let tokens = page.tokens(1).await?;
    assert_eq!(
        tokens,
        picture::sample(&model, "stay with me", 3, 11)?,
        "the image is the same as without a reload"
    );
    let difference = picture::difference(&page.pixels(1).await?, &picture::decode(&model, &tokens)?)?;
    ensure!(difference <= TOLERANCE, "the image differs by {difference} of 255");
    Ok(())
}

#[tokio::test]
async fn a_finished_image_outlives_the_server_that_made_it() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above green", 2, 5).await?;
    page.until_state("finished").await?;
    let (tokens, pixels) = (page.tokens(2).await?, page.pixels(2).await?);
    let id = page.generation().await?;

    server.kill();
    server.revive().await?;
    ensure!(server.state(&id).await.is_err(), "the server has forgotten it");
    page.reload().await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(2).await?, tokens);
    ensure!(page.pixels(2).await? == pixels);
    ensure!(page.trouble().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_reload_after_the_end_shows_the_image_again() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above green", 1, 5).await?;
    page.until_state("finished").await?;
    let (tokens, pixels) = (page.tokens(1).await?, page.pixels(1).await?);

    page.reload().await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?, tokens);
    ensure!(page.pixels(1).await? == pixels);
    assert_eq!(server.metric(CREATED).await?, 1.0, "nothing was asked for twice");
    Ok(())
}
