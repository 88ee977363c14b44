//! Unexpected event streams, and tokens that arrive before the decoder is ready.

use anyhow::{Result, ensure};

use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::picture;
use crate::fixture::recorder::Recorder;
use crate::fixture::server::Server;

const CAPTION: &str = "red above blue";
const SEED: u64 = 6;

#[tokio::test]
async fn an_unknown_event_of_a_newer_server_is_ignored() -> Result<()> {
    let model = models::tiny()?;
    let server = Server::start(&model, &[]).await?;
    let recorder = Recorder::rewriting(&server.url(""), with_news).await?;
    let page = Page::open(&recorder.origin).await?;
    page.generate(CAPTION, 1, SEED).await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?, picture::sample(&model, CAPTION, 1, SEED)?);
    assert_eq!(streams(&recorder), 1, "the stream is opened once");
    Ok(())
}

#[tokio::test]
async fn a_stream_without_progress_is_given_up_after_a_few_attempts() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let recorder = Recorder::rewriting(&server.url(""), without_tokens).await?;
    let page = Page::open(&recorder.origin).await?;
    page.generate(CAPTION, 1, SEED).await?;
    let trouble = page.until_trouble("The connection to the server was lost").await?;
    ensure!(trouble.button.as_deref() == Some("Try again"), "{trouble:?}");
    let opened = streams(&recorder);
    ensure!((2..=10).contains(&opened), "the stream was opened {opened} times");
    Ok(())
}

#[tokio::test]
async fn the_page_says_that_tokens_wait_for_the_decoder() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--grace", "3600"]).await?;
    let recorder = Recorder::holding(&server.url(""), "decoder-cpu").await?;
    let page = Page::open_with(&recorder.origin, &[]).await?;
    page.until_state("idle").await?;
    page.generate(CAPTION, 1, SEED).await?;
    page.until_cells(4).await?;
    let note = async || Ok(page.text("waits-1").await?.filter(|note| note.starts_with("Decoder:")));
    page.browser.until("a note about the decoder", note).await?;
    Ok(())
}

#[tokio::test]
async fn until_the_decoder_is_there_the_page_shows_the_image_of_the_server() -> Result<()> {
    let model = models::tiny()?;
    let server = Server::start(&model, &[]).await?;
    let recorder = Recorder::holding(&server.url(""), "decoder-cpu").await?;
    let page = Page::open_with(&recorder.origin, &[]).await?;
    page.until_state("idle").await?;
    page.generate(CAPTION, 2, SEED).await?;
    page.until_state("finished").await?;
    for number in [1, 2] {
        let expected = picture::decode(&model, &page.tokens(number).await?)?;
        let difference = picture::difference(&page.pixels(number).await?, &expected)?;
        ensure!(difference < 1.0, "image {number} differs by {difference} of 255");
    }
    let device = page.text("device").await?.unwrap_or_default();
    ensure!(device.starts_with("Decoder:"), "the decoder is still held: {device}");
    Ok(())
}

/// How often the page opened an event stream.
fn streams(recorder: &Recorder) -> usize {
    recorder.sent().iter().filter(|sent| sent.address.contains("/events")).count()
}

/// The number of the event in a frame.
fn number(frame: &str) -> Option<u64> {
    frame.lines().find_map(|line| line.strip_prefix("id: ")?.parse().ok())
}

/// Adds an event of an unknown kind after the first one.
fn with_news(frame: &str) -> String {
    match number(frame) {
        Some(0) => {
            let news = r#"{"seq":1,"type":"explained","attention":[[0.5,0.5]]}"#;
            format!("{frame}\n\nid: 1\nevent: explained\ndata: {news}\n\n")
        }
        Some(old) => {
            let new = old + 1;
            let frame = frame.replace(&format!("id: {old}"), &format!("id: {new}"));
            frame.replace(&format!("\"seq\":{old},"), &format!("\"seq\":{new},")) + "\n\n"
        }
        None => format!("{frame}\n\n"),
    }
}

/// Drops the second event.
fn without_tokens(frame: &str) -> String {
    if number(frame) == Some(1) { String::new() } else { format!("{frame}\n\n") }
}
