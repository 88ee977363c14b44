//! The page and its backend on different hosts.

use anyhow::{Result, ensure};

use crate::fixture::host::{Host, free_port};
use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::recorder::Recorder;
use crate::fixture::server::Server;

#[tokio::test]
async fn a_page_without_a_server_says_so_and_connects_when_it_starts() -> Result<()> {
    let port = free_port().await?;
    let backend = format!("http://127.0.0.1:{port}");
    let host = Host::start(&backend).await?;
    let page = Page::open_with(&host.origin, &[]).await?;
    let trouble = page.until_trouble("No server answers").await?;
    ensure!(trouble.text.contains(&backend), "the message names the URL: {trouble:?}");
    ensure!(trouble.text.contains("Check your connection"), "{trouble:?}");
    ensure!(trouble.button.as_deref() == Some("Try again"), "{trouble:?}");

    let _server = Server::start_at(port, &models::tiny()?, &["--allow-origin", &host.origin]).await?;
    page.press("retry").await?;
    page.until_decoder_ready().await?;
    page.generate("white above red", 1, 9).await?;
    page.until_state("finished").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_the_page_is_distinguished_from_an_unreachable_one() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let host = Host::start(&server.url("")).await?;
    let page = Page::open_with(&host.origin, &[]).await?;
    let trouble = page.until_trouble("does not allow this page").await?;
    ensure!(trouble.text.contains(&server.url("")), "the message names the server: {trouble:?}");
    ensure!(trouble.text.contains(&format!("--allow-origin {}", host.origin)), "{trouble:?}");
    Ok(())
}

#[tokio::test]
async fn a_backend_url_without_a_scheme_is_a_configuration_error() -> Result<()> {
    let host = Host::start("127.0.0.1:8098").await?;
    let page = Page::open_with(&host.origin, &[]).await?;
    let trouble = page.until_trouble("config.json cannot be used").await?;
    ensure!(trouble.text.contains("begins with http://"), "{trouble:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_under_a_path_finds_its_server_under_the_same_path() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let proxy = Recorder::under(&server.url(""), "/apps/dalle").await?;
    let page = Page::open(&format!("{}/apps/dalle/", proxy.origin)).await?;
    page.generate("white above red", 1, 9).await?;
    page.until_state("finished").await?;
    Ok(())
}
