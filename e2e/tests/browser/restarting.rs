//! A server that is killed: the page reports it, and its button recovers.

use anyhow::{Context, Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{LONG, models, picture};

#[tokio::test]
async fn a_generation_is_requested_again_after_its_server_was_restarted() -> Result<()> {
    let mut server = Server::start(&models::slow()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("twice", 1, 21).await?;
    let before = page.until_cells(4).await?;

    server.kill();
    server.revive().await?;
    // Which of the two messages appears depends on how long the restart took.
    let trouble = page.browser.until("a message", async || page.trouble().await).await?;
    let known = ["no longer knows this generation", "connection to the server was lost"];
    ensure!(known.iter().any(|words| trouble.text.contains(words)), "{trouble:?}");
    ensure!(trouble.button.is_some(), "{trouble:?}");

    page.press("retry").await?;
    let after = page.until_cells(before.len()).await?;
    assert_eq!(after[..before.len()], before, "the same seed gives the same tokens again");
    ensure!(page.trouble().await?.is_none(), "the message is still shown");
    Ok(())
}

#[tokio::test]
async fn a_lost_server_is_reported_and_retrying_finishes_the_image() -> Result<()> {
    let model = models::slow()?;
    let mut server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("away", 1, 22).await?;
    page.until_cells(4).await?;

    server.kill();
    let noticed = async || Ok(page.text("status").await?.filter(|text| text.contains("Connection lost")));
    page.browser.until("a line about the lost connection", noticed).await?;
    let trouble = page.until_trouble("The connection to the server was lost").await?;
    ensure!(trouble.text.contains("Check your connection"), "{trouble:?}");
    assert_eq!(trouble.button.as_deref(), Some("Try again"));
    ensure!(page.state().await?.as_deref() == Some("failed"));

    server.revive().await?;
    page.press("retry").await?;
    page.until_state_within(LONG, "finished").await?;
    assert_eq!(page.tokens(1).await?, picture::sample(&model, "away", 1, 22)?);
    ensure!(page.trouble().await?.is_none(), "the message is still shown");
    Ok(())
}

#[tokio::test]
async fn a_server_that_stopped_before_generate_is_pressed_is_reported() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    server.kill();
    page.generate("no one there", 1, 1).await?;
    let trouble = page.until_trouble("No server answers at this page's address.").await?;
    ensure!(trouble.text.contains("that the server is running"), "{trouble:?}");

    server.revive().await?;
    page.press("retry").await?;
    page.until_state("finished").await
}

#[tokio::test]
async fn images_stay_on_display_when_the_next_request_fails() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above blue", 1, 1).await?;
    page.until_state("finished").await?;
    let (tokens, pixels) = (page.tokens(1).await?, page.pixels(1).await?);
    server.kill();
    page.generate("white above green", 1, 1).await?;
    page.until_trouble("No server answers").await?;
    assert_eq!(page.tokens(1).await?, tokens);
    ensure!(page.pixels(1).await? == pixels);
    assert_eq!(page.text("asked").await?.as_deref(), Some("red above blue"), "the images keep their caption");

    server.revive().await?;
    page.press("retry").await?;
    page.until_state("finished").await?;
    assert_eq!(page.text("asked").await?.as_deref(), Some("white above green"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_comes_back_with_another_model_asks_for_a_reload() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    server.kill();
    server.revive_with(&models::slow()?).await?;
    page.generate("still here", 1, 8).await?;
    let trouble = page.until_trouble("changed to another model").await?;
    assert_eq!(trouble.button.as_deref(), Some("Reload the page"));

    page.press("retry").await?;
    page.until_state("idle").await?;
    let name: String = page.browser.js("return document.querySelector('.model').innerText", ()).await?;
    assert_eq!(name, "slow-test");
    let caption: String = page.browser.js("return document.getElementById('caption').value", ()).await?;
    ensure!(caption == "still here", "the caption is not kept: “{caption}”");
    page.press("generate").await?;
    page.until_cells(1).await.context("the new model generates")?;
    Ok(())
}
