//! A server with a full queue.

use anyhow::{Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{LONG, models};

#[tokio::test]
async fn a_busy_server_is_reported_and_retried_until_it_accepts() -> Result<()> {
    let model = models::slow()?;
    // No client watches the test's own jobs, and they must not be cancelled for that.
    let server = Server::start(&model, &["--max-rows", "9", "--queue", "1", "--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    let running = server.generate(9, 1).await?;
    server.until_metric("dalle_rows_running", |rows| rows == 9.0).await?;
    let waiting = server.generate(9, 2).await?;

    page.generate("me too", 1, 3).await?;
    let trouble = page.until_trouble("The server is busy").await?;
    ensure!(trouble.text.contains("sent again automatically"), "{trouble:?}");
    ensure!(trouble.text.contains("Next attempt in"), "{trouble:?}");
    assert_eq!(trouble.button.as_deref(), Some("Try now"));

    // The queue is still full, so an immediate retry reports the same.
    let busy = server.metric("dalle_busy_total").await?;
    page.press("retry").await?;
    server.until_metric("dalle_busy_total", |now| now > busy).await?;
    page.until_trouble("The server is busy").await?;

    // A slot of the queue becomes free. No button is pressed: the page retries when the server's Retry-After is over.
    server.cancel(&waiting).await?;
    let accepted = async || Ok((page.trouble().await?.is_none()).then_some(()));
    page.browser.until_within(LONG, "an accepted request", accepted).await?;
    server.cancel(&running).await?;
    page.until_state_within(LONG, "finished").await?;
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_busy_server_can_be_stopped() -> Result<()> {
    let server =
        Server::start(&models::slow()?, &["--max-rows", "9", "--queue", "1", "--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    server.generate(9, 1).await?;
    server.until_metric("dalle_rows_running", |rows| rows == 9.0).await?;
    server.generate(9, 2).await?;
    page.generate("never mind", 1, 3).await?;
    page.until_trouble("The server is busy").await?;

    page.press("stop").await?;
    page.until_state("cancelled").await?;
    ensure!(page.trouble().await?.is_none(), "the message is still shown");
    Ok(())
}

#[tokio::test]
async fn the_page_says_how_many_requests_are_before_its_own() -> Result<()> {
    let server =
        Server::start(&models::slow()?, &["--max-rows", "9", "--queue", "5", "--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    server.generate(9, 1).await?;
    server.until_metric("dalle_rows_running", |rows| rows == 9.0).await?;
    // Each waits for all rows, so that they run one after the other, for seconds each.
    server.generate(9, 2).await?;
    server.generate(9, 3).await?;
    page.generate("in turn", 1, 4).await?;
    for status in ["2 requests before yours", "1 request before yours", "yours is next"] {
        page.until_text("status", status).await?;
    }
    page.press("stop").await?;
    page.until_state("cancelled").await
}
