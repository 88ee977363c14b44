//! The page without a server: the prior runs in the browser.

use anyhow::{Result, ensure};

use crate::fixture::LONG;
use crate::fixture::host::Host;
use crate::fixture::page::Page;
use crate::fixture::picture::{self, TOLERANCE};
use crate::fixture::server::Server;
use crate::fixture::{environment, models};

const CAPTION: &str = "A red apple";
const SEED: u64 = 42;

#[tokio::test]
async fn without_a_server_a_caption_becomes_the_image_of_the_command() -> Result<()> {
    let model = environment::shipped_model()?;
    let host = Host::without_server(&model, "/user/dalle").await?;
    let page = Page::open(&format!("{}/user/dalle/", host.origin)).await?;
    page.generate(CAPTION, 2, SEED).await?;
    page.until_state_within(LONG, "finished").await?;
    ensure!(page.trouble().await?.is_none());

    let tokens = page.tokens(1).await?;
    assert_eq!(tokens, picture::sample(&model, CAPTION, 2, SEED)?, "the same seed, the same tokens");
    for number in [1, 2] {
        let expected = picture::decode(&model, &page.tokens(number).await?)?;
        let difference = picture::difference(&page.pixels(number).await?, &expected)?;
        ensure!(difference <= TOLERANCE, "image {number} differs by {difference} of 255");
    }
    ensure!(page.tokens(2).await? != tokens, "two samples differ");

    // A reload shows the result again, and a link leads to it.
    page.reload().await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?, tokens);
    let link = page.browser.driver.current_url().await?;
    let other = Page::open_link(link.as_str()).await?;
    assert_eq!(other.tokens(1).await?, tokens, "{link}");

    let faults = page.browser.console("SEVERE").await?;
    ensure!(faults.is_empty(), "the console has errors: {faults:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_browser_samples_can_be_stopped_and_continues_after_a_reload() -> Result<()> {
    let host = Host::without_server(&models::slow()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.generate("red", 1, 5).await?;
    let seen = page.until_cells(16).await?;
    page.press("stop").await?;
    page.until_state("cancelled").await?;

    page.generate("red", 1, 5).await?;
    page.until_cells(16).await?;
    page.reload().await?;
    let again = page.until_cells(16).await?;
    assert_eq!(again[..16], seen[..16], "the same seed, the same tokens");
    page.press("stop").await?;
    page.until_state("cancelled").await
}

#[tokio::test]
async fn the_browser_samples_the_tokens_of_the_server_when_the_person_chooses_it() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    // At such a high temperature the tokens depend only on the seed.
    page.open_settings().await?;
    page.fill("temperature", "5").await?;
    page.generate("blue above white", 3, 8).await?;
    page.until_state("finished").await?;
    let expected = page.tokens(3).await?;
    let sampled = server.metric("dalle_tokens_sampled_total").await?;

    page.press("place-browser").await?;
    page.generate("blue above white", 3, 8).await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(3).await?, expected);
    assert_eq!(server.metric("dalle_tokens_sampled_total").await?, sampled, "the server sampled it");
    let model = page.text("model").await?.unwrap_or_default();
    ensure!(model.contains("in this browser"), "the page says “{model}”");
    Ok(())
}

#[tokio::test]
async fn after_one_visit_the_page_works_offline() -> Result<()> {
    let model = models::tiny()?;
    let host = Host::without_server(&model, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    let kept = async || {
        let script = "return navigator.serviceWorker.controller?.state === 'activated' || null";
        page.browser.js::<Option<bool>>(script, serde_json::Value::Null).await
    };
    page.browser.until("a service worker", kept).await?;
    drop(host);

    page.browser.driver.goto("about:blank").await?;
    page.browser.driver.back().await?;
    page.until_decoder_ready().await?;
    page.generate("white above red", 1, 9).await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?, picture::sample(&model, "white above red", 1, 9)?);
    Ok(())
}

#[tokio::test]
async fn the_foot_says_what_the_model_cannot_do_and_links_to_its_card_and_the_paper() -> Result<()> {
    let host = Host::without_server(&environment::shipped_model()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.press("limits").await?;
    page.until_text("limits-list", "One style").await?;
    let paper: Option<String> = page.part("paper", "part.href").await?;
    assert_eq!(paper.as_deref(), Some("https://arxiv.org/abs/2102.12092"));
    let card =
        "return fetch(document.querySelector('[data-testid=model-card]').href).then((card) => card.text())";
    let card: String = page.browser.js(card, ()).await?;
    assert!(card.contains("## Limitations"), "{card}");
    assert!(page.text("source").await?.is_none(), "no address of the code is known");
    Ok(())
}
