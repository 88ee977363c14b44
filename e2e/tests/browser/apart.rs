//! Page and backend at different places.

use anyhow::{Result, ensure};

use crate::fixture::host::{Host, free_port};
use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::server::Server;

#[tokio::test]
async fn a_page_without_a_server_says_so_and_finds_it_when_it_is_there() -> Result<()> {
    let port = free_port().await?;
    let backend = format!("http://127.0.0.1:{port}");
    let host = Host::start(&backend).await?;
    let page = Page::open_with(&host.origin, &[]).await?;
    let trouble = page.until_trouble("No server answers").await?;
    ensure!(trouble.text.contains(&backend), "the address is named: {trouble:?}");
    ensure!(trouble.text.contains("Check your connection"), "{trouble:?}");
    ensure!(trouble.button.as_deref() == Some("Try again"), "{trouble:?}");

    let _server = Server::start_at(port, &models::tiny()?, &["--allow-origin", &host.origin]).await?;
    page.press("retry").await?;
    page.until_decoder_ready().await?;
    page.generate("white above red", 1, 9).await?;
    page.until_state("finished").await?;
    Ok(())
}
