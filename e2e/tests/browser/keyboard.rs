//! Operation by keyboard.

use anyhow::{Result, ensure};
use thirtyfour::Key;

use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::server::Server;

/// More Tab stops than the page has.
const MANY: usize = 90;

/// The focused element's name, and whether its focus is visible.
const FOCUSED: &str = "const focused = document.activeElement; const style = getComputedStyle(focused); \
    return [focused.dataset.testid || focused.getAttribute('aria-label') || focused.innerText || focused.tagName, \
    style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0]";

#[tokio::test]
async fn a_generation_is_started_and_stopped_by_keyboard_alone() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    let stops = walk(&page, "caption").await?;
    ensure!(stops.len() < 8, "the caption is {} stops away: {stops:?}", stops.len());
    let keys = || page.browser.driver.action_chain();
    keys().send_keys("by hand").perform().await?;
    keys().key_down(Key::Control).send_keys(Key::Enter).key_up(Key::Control).perform().await?;
    page.until_cells(2).await?;
    let id = page.generation().await?;
    keys().send_keys(Key::Escape).perform().await?;
    page.until_state("cancelled").await?;
    server.until_metric("dalle_rows_running", |rows| rows == 0.0).await?;
    assert_eq!(server.state(&id).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn buttons_keep_the_focus_when_they_become_disabled() -> Result<()> {
    let server = Server::start(&models::slow()?, &["--grace", "3600"]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.type_caption("by hand").await?;
    let keys = || page.browser.driver.action_chain();
    let focused = async || -> Result<String> { Ok(page.browser.js::<(String, bool)>(FOCUSED, ()).await?.0) };
    walk(&page, "generate").await?;
    keys().send_keys(Key::Enter).perform().await?;
    page.until_cells(1).await?;
    assert_eq!(focused().await?, "generate");
    walk(&page, "stop").await?;
    keys().send_keys(Key::Enter).perform().await?;
    page.until_state("cancelled").await?;
    assert_eq!(focused().await?, "stop");
    // Pressed again, they do nothing.
    keys().send_keys(Key::Enter).perform().await?;
    assert_eq!(page.state().await?.as_deref(), Some("cancelled"));
    Ok(())
}

#[tokio::test]
async fn enter_generates_and_shift_enter_starts_a_new_line() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let caption = page.find("caption").await?;
    caption.send_keys("red above").await?;
    caption.send_keys(Key::Shift + Key::Enter).await?;
    caption.send_keys(Key::Null + "blue").await?;
    assert_eq!(caption.prop("value").await?.as_deref(), Some("red above\nblue"));
    assert_eq!(page.state().await?.as_deref(), Some("idle"));
    caption.send_keys(Key::Enter).await?;
    page.until_state("finished").await?;
    assert_eq!(caption.prop("value").await?.as_deref(), Some("red above\nblue"));
    Ok(())
}

#[tokio::test]
async fn the_tab_key_visits_every_control_and_shows_where_it_is() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    page.press("more-1").await?;
    page.browser.js::<()>("document.querySelector('.skip').focus(); return null", ()).await?;
    let stops = walk(&page, "copy-link").await?;
    for part in [
        "caption",
        "chips",
        "samples",
        "seed",
        "seed-lock",
        "start-summary",
        "generate",
        "choose-row-1",
        "download-1",
        "more-1",
        "copy-1",
        "enlarged-1",
        "tokens-json-1",
        "favourite",
    ] {
        ensure!(stops.iter().any(|stop| stop == part), "{part} is not reached; the stops are {stops:?}");
    }
    Ok(())
}

#[tokio::test]
async fn images_are_generated_kept_shown_again_and_explained_by_keyboard_alone() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let press = async |key: Key| page.browser.driver.action_chain().send_keys(key).perform().await;
    let focused = async || -> Result<String> { Ok(page.browser.js::<(String, bool)>(FOCUSED, ()).await?.0) };
    for caption in ["red above blue", "white above black"] {
        page.browser.js::<()>("document.activeElement.blur(); scrollTo(0, 0); return null", ()).await?;
        page.browser.js::<()>("document.querySelector('.skip').focus(); return null", ()).await?;
        walk(&page, "caption").await?;
        let keys = page.browser.driver.action_chain();
        keys.key_down(Key::Control).send_keys("a").key_up(Key::Control).send_keys(caption).perform().await?;
        press(Key::Enter).await?;
        page.until_text("asked", caption).await?;
        page.until_state("finished").await?;
    }
    walk(&page, "favourite").await?;
    press(Key::Space).await?;
    let marked: Option<bool> = page.part("favourite", "part.ariaPressed === 'true'").await?;
    assert_eq!(marked, Some(true));
    walk(&page, "red above blue").await?;
    press(Key::Enter).await?;
    page.until_text("asked", "red above blue").await?;
    page.until_state("finished").await?;
    page.browser.js::<()>("document.querySelector('.skip').focus(); return null", ()).await?;
    walk(&page, "explain-1").await?;
    press(Key::Enter).await?;
    page.until_text("now", "Token 16 of 16").await?;
    walk(&page, "first").await?;
    press(Key::Enter).await?;
    page.until_text("now", "Token 1 of 16").await?;
    page.browser.js::<()>("document.getElementById('explain').focus(); return null", ()).await?;
    walk(&page, "explain-close").await?;
    press(Key::Enter).await?;
    page.until_text("asked", "red above blue").await?;
    assert_ne!(focused().await?, "BODY", "the focus is not lost with the button");
    Ok(())
}

/// Presses Tab until `part` has the focus; returns all stops on the way.
async fn walk(page: &Page, part: &str) -> Result<Vec<String>> {
    let mut stops = Vec::new();
    while stops.len() < MANY {
        page.browser.driver.action_chain().send_keys(Key::Tab).perform().await?;
        let (stop, visible): (String, bool) = page.browser.js(FOCUSED, ()).await?;
        ensure!(visible, "the focus on “{stop}” is not visible");
        stops.push(stop);
        if stops.last().is_some_and(|stop| stop == part) {
            return Ok(stops);
        }
    }
    Err(page.browser.complaint(&format!("{part} is not reached by Tab, only {stops:?}")).await)
}
