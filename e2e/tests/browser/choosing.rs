//! More pictures are drawn than are shown: the contrastive model chooses, and then the person.

use anyhow::{Context, Result, ensure};

use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{LONG, environment, models, picture};

const CAPTION: &str = "flying saucer";
const SEED: u64 = 7;
const DRAWN: usize = 8;

#[tokio::test]
async fn the_best_are_shown_until_the_person_prefers_another() -> Result<()> {
    let model = environment::shipped_model()?;
    let server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    // Hot enough that no two samples are alike.
    page.open_settings().await?;
    page.fill("temperature", "1").await?;
    page.choose_best_of(Some(DRAWN)).await?;
    page.generate(CAPTION, 2, SEED).await?;
    page.until_state_within(LONG, "finished").await?;

    let best = page.tokens(1).await?;
    assert_eq!(best, picture::best_of(&model, CAPTION, DRAWN, SEED, "1")?, "the command's best of {DRAWN}");
    let second = page.tokens(2).await?;
    ensure!(second != best, "two pictures are two samples");
    let candidates = page.candidates().await?;
    assert_eq!(candidates.len(), DRAWN);
    let scores = candidates.iter().map(|label| score(label)).collect::<Result<Vec<_>>>()?;
    ensure!(scores.is_sorted_by(|a, b| a >= b), "the best first: {candidates:?}");

    // All are drawn in time, those that are not shown large too; the worst of them takes the first place.
    let worst = candidates.last().context("no candidates")?;
    let number = worst.split([' ', ',']).nth(2).context("no number")?;
    page.press(&format!("candidate-{number}")).await?;
    let chosen = async || Ok(Some(page.tokens(1).await?).filter(|tokens| *tokens != best));
    let tokens = page.browser.until("another picture in the first place", chosen).await?;
    assert_eq!(page.tokens(2).await?, best, "the best is the second now");
    let alone = picture::sample_hot(&model, CAPTION, SEED + number.parse::<u64>()? - 1, "1")?;
    assert_eq!(tokens, alone, "each sample is what its own seed draws alone");
    page.pixels(1).await?;

    let link = page.browser.driver.current_url().await?;
    let other = Page::open(link.as_str()).await?;
    other.press("generate").await?;
    other.until_state_within(LONG, "finished").await?;
    assert_eq!(other.tokens(1).await?, best, "a link brings the same choice: {link}");
    Ok(())
}

#[tokio::test]
async fn a_model_that_cannot_choose_offers_no_choice() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    ensure!(page.find("best-of").await.is_err(), "a choice is offered");
    page.generate("red above blue", 2, 1).await?;
    page.until_state("finished").await?;
    ensure!(page.candidates().await?.is_empty());
    Ok(())
}

/// The score in a label such as `Show drawing 3, score 0.63`.
fn score(label: &str) -> Result<f64> {
    let score = label.rsplit(' ').next().context("an empty label")?;
    Ok(score.replace('\u{2212}', "-").parse()?)
}
