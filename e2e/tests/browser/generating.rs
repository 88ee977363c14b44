//! The page and the command generate the same images.

use anyhow::{Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::picture::{self, TOLERANCE};
use crate::fixture::server::Server;
use crate::fixture::{LONG, environment};

const CAPTION: &str = "A red apple";
const SEED: u64 = 42;

#[tokio::test]
async fn the_page_generates_the_images_that_the_command_generates() -> Result<()> {
    let model = environment::shipped_model()?;
    let server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.choose_best_of(None).await?;
    page.generate(CAPTION, 2, SEED).await?;
    page.until_state_within(LONG, "finished").await?;
    ensure!(page.trouble().await?.is_none());

    let tokens = page.tokens(1).await?;
    assert_eq!(tokens, picture::sample(&model, CAPTION, 2, SEED)?, "the same seed, the same tokens");
    for number in [1, 2] {
        let tokens = page.tokens(number).await?;
        let (shown, expected) = (page.pixels(number).await?, picture::decode(&model, &tokens)?);
        let contrast = picture::contrast(&expected);
        ensure!(contrast > 4.0 * TOLERANCE, "too little contrast to compare: {contrast}");
        let difference = picture::difference(&shown, &expected)?;
        ensure!(difference <= TOLERANCE, "image {number} differs by {difference} of 255");
    }
    ensure!(page.tokens(2).await? != tokens, "two samples differ");

    page.press("download-2").await?;
    let saved = image::load_from_memory(&page.browser.download("_43.png").await?)?.to_rgb8();
    ensure!(saved == page.pixels(2).await?, "the saved image is the displayed one");

    let faults = page.browser.console("SEVERE").await?;
    ensure!(faults.is_empty(), "the console has errors: {faults:?}");
    Ok(())
}

#[tokio::test]
async fn a_link_shows_its_image_and_the_next_images_have_other_seeds() -> Result<()> {
    let model = crate::fixture::models::tiny()?;
    let server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    // At such a high temperature the tokens depend only on the seed.
    page.open_settings().await?;
    page.fill("temperature", "5").await?;
    page.generate("blue above white", 1, u64::MAX).await?;
    page.until_state("finished").await?;
    let (tokens, link) = (page.tokens(1).await?, page.browser.driver.current_url().await?);

    let other = Page::open_link(link.as_str()).await?;
    assert_eq!(other.tokens(1).await?, tokens, "{link}");
    // The seed of a link applies only to its own images. The next ones have another seed.
    other.press("generate").await?;
    let differs = async || {
        let finished = other.state().await?.as_deref() == Some("finished");
        Ok((finished && other.tokens(1).await? != tokens).then_some(()))
    };
    other.browser.until("another image", differs).await?;
    Ok(())
}
