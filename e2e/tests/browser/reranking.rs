//! Reranking: more images are sampled than shown, CLIP selects the best, and the user can select others.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{LONG, environment, models, picture};

const CAPTION: &str = "flying saucer";
const SEED: u64 = 7;
const SAMPLED: usize = 8;

#[tokio::test]
async fn the_best_images_are_shown_until_the_user_pins_another() -> Result<()> {
    let model = environment::shipped_model()?;
    let (_server, page) = open(&model, SAMPLED).await?;
    page.generate(CAPTION, 2, SEED).await?;
    page.until_state_within(LONG, "finished").await?;

    let best = page.tokens(1).await?;
    assert_eq!(
        best,
        picture::best_of(&model, CAPTION, SAMPLED, SEED, "1")?,
        "the command's best of {SAMPLED}"
    );
    let second = page.tokens(2).await?;
    ensure!(second != best, "two images are two samples");
    let candidates = page.candidates().await?;
    assert_eq!(candidates.len(), SAMPLED);
    let scores = candidates.iter().map(|label| score(label)).collect::<Result<Vec<_>>>()?;
    // Scores within 0.03 of the highest do not say which image is better: these are in the order of their likeness.
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let near = scores.iter().take_while(|score| **score >= highest - 0.035).count();
    ensure!(near > 0 && scores[near..].is_sorted_by(|a, b| a >= b), "the best first: {candidates:?}");

    // Small images are decoded too. The worst of them is moved to the first place.
    let worst = candidates.last().context("no candidates")?;
    let number = worst.split([' ', ',']).nth(2).context("no number")?;
    page.press(&format!("candidate-{number}")).await?;
    let chosen = async || Ok(Some(page.tokens(1).await?).filter(|tokens| *tokens != best));
    let tokens = page.browser.until("another image in the first place", chosen).await?;
    assert_eq!(page.tokens(2).await?, best, "the best is the second now");
    let alone = picture::sample_hot(&model, CAPTION, SEED + number.parse::<u64>()? - 1, "1")?;
    assert_eq!(tokens, alone, "each sample is what its own seed gives alone");
    page.pixels(1).await?;

    page.press(&format!("candidate-{number}")).await?;
    let returned = async || Ok(Some(page.tokens(1).await?).filter(|tokens| *tokens == best));
    page.browser.until("the best in the first place again", returned).await?;

    let link = page.browser.driver.current_url().await?;
    let other = Page::open_link(link.as_str()).await?;
    assert_eq!(other.tokens(1).await?, best, "a link brings the same choice: {link}");
    Ok(())
}

#[tokio::test]
async fn a_pinned_image_survives_a_reload_and_has_its_own_link() -> Result<()> {
    let model = environment::shipped_model()?;
    let (_server, page) = open(&model, 32).await?;
    page.generate(CAPTION, 1, SEED).await?;
    // Sorting moves the small images, but the keyboard focus stays on the same image.
    page.browser.until("the small images", async || Ok(page.candidates().await?.first().map(|_| ()))).await?;
    page.browser.js::<()>("document.getElementById('candidate-21').focus(); return null", ()).await?;
    page.until_state_within(LONG, "finished").await?;
    let focus = async || -> Result<Option<()>> {
        let focused: String = page.browser.js("return document.activeElement.id", ()).await?;
        Ok((focused == "candidate-21").then_some(()))
    };
    page.browser.until("the focus where it was", focus).await?;

    let best = page.tokens(1).await?;
    page.press("candidate-3").await?;
    let alone = picture::sample_hot(&model, CAPTION, SEED + 2, "1")?;
    ensure!(alone != best, "the third image happens to be the best; choose another seed");
    let preferred = async || Ok(Some(page.tokens(1).await?).filter(|tokens| *tokens == alone).map(|_| ()));
    page.browser.until("the third", preferred).await?;
    page.reload().await?;
    page.until_state_within(LONG, "finished").await?;
    page.browser.until("the third after a reload", preferred).await?;
    page.press("copy-link").await?;
    let link = page.browser.driver.current_url().await?;
    let other = Page::open_link(link.as_str()).await?;
    assert_eq!(other.tokens(1).await?, alone, "{link}");
    ensure!(other.candidates().await?.is_empty(), "only one image is sampled");
    Ok(())
}

#[tokio::test]
async fn the_number_in_the_field_is_the_number_that_is_sampled() -> Result<()> {
    let server = Server::start(&environment::shipped_model()?, &["--max-rows", "16"]).await?;
    let page = Page::open(&server.url("/")).await?;
    let chosen = async |wanted: &'static str| {
        let read = "return document.querySelector('[data-testid=best-of]').value";
        let same =
            async || Ok(Some(page.browser.js::<String>(read, ()).await?).filter(|value| value == wanted));
        page.browser.until(&format!("“{wanted}” in the field"), same).await
    };
    chosen("8").await?;
    page.choose_best_of(Some(16)).await?;
    page.choose_best_of(Some(4)).await?;
    let follow =
        async |link: &str| page.browser.js::<()>("location.hash = arguments[0]; return null", link).await;
    follow("caption=red+apple&n=1&seed=1&best_of=2").await?;
    chosen("2").await?;
    // More than the server's limit.
    follow("caption=red+apple&n=1&seed=1&best_of=32").await?;
    chosen("16").await?;
    page.press("generate").await?;
    page.until_state_within(LONG, "finished").await?;
    assert_eq!(page.candidates().await?.len(), 16);
    page.choose_samples(9).await?;
    chosen("16").await?;
    follow("caption=red+apple&n=1&seed=1").await?;
    chosen("").await?;
    Ok(())
}

#[tokio::test]
async fn a_model_without_clip_offers_no_reranking() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    ensure!(page.find("best-of").await.is_err(), "the page offers reranking");
    page.generate("red above blue", 2, 1).await?;
    page.until_state("finished").await?;
    ensure!(page.candidates().await?.is_empty());
    Ok(())
}

/// Starts a server and its page, set to sample `best_of` images at a temperature at which they differ.
async fn open(model: &Path, best_of: usize) -> Result<(Server, Page)> {
    let server = Server::start(model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.open_settings().await?;
    page.fill("temperature", "1").await?;
    page.choose_best_of(Some(best_of)).await?;
    Ok((server, page))
}

/// The score in a label such as `Show image 3, score 0.63`.
fn score(label: &str) -> Result<f64> {
    let score = label.rsplit(' ').next().context("an empty label")?;
    Ok(score.replace('\u{2212}', "-").parse()?)
}
