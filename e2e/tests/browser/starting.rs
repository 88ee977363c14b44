//! Starting from an image: images that start with rows of another image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;
use thirtyfour::Key;

use crate::fixture::page::Page;
use crate::fixture::recorder::Recorder;
use crate::fixture::server::Server;
use crate::fixture::{LONG, environment, models, picture};

#[tokio::test]
async fn an_uploaded_image_has_the_tokens_of_the_command_and_is_never_sent() -> Result<()> {
    let model = environment::shipped_model()?;
    let server = Server::start(&model, &[]).await?;
    let recorder = Recorder::start(&server.url("")).await?;
    let page = Page::open(&recorder.origin).await?;
    let folder = TempDir::new()?;
    let png = folder.path().join("own.png");
    picture::decode(&model, &picture::sample(&model, "A red apple", 1, 42)?)?.save(&png)?;
    let own = picture::encode(&model, &png)?;

    page.choose_best_of(None).await?;
    let before = recorder.sent().len();
    page.choose_picture(&png).await?;
    let fetched: Vec<String> = recorder.sent()[before..].iter().map(|sent| sent.address.clone()).collect();
    ensure!(
        matches!(fetched.as_slice(), [only] if only.contains("encoder.safetensors")),
        "the encoder is fetched when it is first needed, and nothing else: {fetched:?}"
    );
    let grid = own.len().isqrt();
    // All rows but one, to compare as many as possible with the command.
    page.find("start-rows").await?.send_keys(Key::End).await?;
    page.generate("A blue sky", 2, 7).await?;
    page.until_state_within(LONG, "finished").await?;
    let kept = (grid - 1) * grid;
    for number in [1, 2] {
        assert_eq!(page.tokens(number).await?[..kept], own[..kept], "picture {number}");
    }

    page.find("start-rows").await?.send_keys(Key::Home + Key::Right).await?;
    page.generate("A blue sky", 2, 7).await?;
    page.until_state_within(LONG, "finished").await?;
    let tokens = page.tokens(1).await?;
    let expected = picture::sample_from(&model, "A blue sky", 2, 7, &png, 2)?;
    assert_eq!(tokens, expected, "the command gives the same from the same two rows");

    let mut generations = Vec::new();
    for sent in recorder.sent() {
        ensure!(!sent.address.contains("start="), "the prefix of a link was sent: {sent:?}");
        if !sent.body.is_empty() {
            let body: Value = serde_json::from_slice(&sent.body).with_context(|| format!("{sent:?}"))?;
            let mut fields: Vec<&String> = body.as_object().context("no object")?.keys().collect();
            fields.sort();
            assert_eq!(fields, ["model", "prefix", "samples", "seed", "temperature", "text"]);
            generations.push(body["prefix"].as_array().context("no prefix")?.len());
        }
    }
    assert_eq!(generations, [kept, 2 * grid], "of the image, only the tokens of the rows kept were sent");
    Ok(())
}

#[tokio::test]
async fn an_image_is_regenerated_from_a_row_and_its_link_restores_it() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    // At such a high temperature the tokens depend only on the seed.
    page.open_settings().await?;
    page.fill("temperature", "5").await?;
    page.generate("blue above white", 2, 1).await?;
    page.until_state("finished").await?;
    let first = page.tokens(2).await?;

    page.press("choose-row-2").await?;
    let slider = page.find("redraw-rows-2").await?;
    slider.send_keys(Key::Home).await?;
    // A click on the third of four rows keeps three rows; the keyboard then reduces that to two.
    page.click_at("picture-2", 0.5, 0.6).await?;
    assert_eq!(slider.prop("value").await?.as_deref(), Some("3"));
    slider.send_keys(Key::Left).await?;
    page.press("redraw-2").await?;
    let again = page
        .browser
        .until("other images", async || {
            if page.state().await?.as_deref() != Some("finished") {
                return Ok(None);
            }
            Ok(Some([page.tokens(1).await?, page.tokens(2).await?]))
        })
        .await?;
    for tokens in &again {
        assert_eq!(tokens[..8], first[..8], "two rows of four are kept");
        ensure!(tokens[8..] != first[8..], "the rest is sampled with another seed");
    }
    ensure!(again[0] != again[1]);

    let link = page.browser.driver.current_url().await?;
    let other = Page::open_link(link.as_str()).await?;
    assert_eq!([other.tokens(1).await?, other.tokens(2).await?], again, "{link}");

    let cut = &link.as_str()[..link.as_str().len() - 1];
    let damaged = Page::open(cut).await?;
    let said =
        damaged.browser.until("a notice about the damage", async || damaged.text("notice").await).await?;
    ensure!(said.contains("damaged") && said.contains("left out"), "{said}");
    let foreign = link.as_str().replace("model=", "model=0");
    let foreign = Page::open(&foreign).await?;
    let said =
        foreign.browser.until("a notice about the model", async || foreign.text("notice").await).await?;
    ensure!(said.contains("another model") && said.contains("left out"), "{said}");
    Ok(())
}

#[tokio::test]
async fn kept_rows_apply_only_to_their_caption_unless_the_user_overrides_it() -> Result<()> {
    let model = models::tiny()?;
    let server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.open_settings().await?;
    page.fill("temperature", "5").await?;
    page.generate("blue above white", 1, 1).await?;
    page.until_state("finished").await?;
    let first = page.tokens(1).await?;
    page.press("choose-row-1").await?;
    page.press("redraw-1").await?;
    page.until_start().await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?[..8], first[..8], "two rows of four are kept");

    page.type_caption("red above blue").await?;
    let hint = page.text("start-hint").await?.unwrap_or_default();
    ensure!(hint.contains("Not used") && hint.contains("“blue above white”"), "{hint}");
    page.press("start-use").await?;
    page.generate("red above blue", 1, 3).await?;
    page.until_state("finished").await?;
    assert_eq!(page.tokens(1).await?[..8], first[..8], "the user has overridden it");

    page.press("choose-row-1").await?;
    page.press("redraw-1").await?;
    page.until_state("finished").await?;
    page.generate("white above red", 1, 3).await?;
    page.until_state("finished").await?;
    let expected = picture::sample_hot(&model, "white above red", 3, "5")?;
    assert_eq!(page.tokens(1).await?, expected, "no rows of an image of another caption are kept");
    Ok(())
}

#[tokio::test]
async fn images_can_be_dropped_and_pasted_are_cropped_to_a_square_and_can_be_removed() -> Result<()> {
    let model = models::tiny()?;
    let mut server = Server::start(&model, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let folder = TempDir::new()?;
    let (middle, wide) = (folder.path().join("middle.png"), folder.path().join("wide.png"));
    let colour = |x: u32, y: u32| if y < 16 { Rgb([220, 40, 40]) } else { Rgb([40, 70, x as u8 * 4]) };
    RgbImage::from_fn(32, 32, colour).save(&middle)?;
    let outside = Rgb([20, 20, 20]);
    RgbImage::from_fn(48, 32, |x, y| if (8..40).contains(&x) { colour(x - 8, y) } else { outside })
        .save(&wide)?;
    let own = picture::encode(&model, &middle)?;

    server.kill();
    page.bring("drop", &fs::read(&middle)?).await?;
    let said = page.browser.until("a notice about the encoder", async || page.text("notice").await).await?;
    ensure!(
        said.contains("ncoder.safetensors could not be downloaded")
            && said.contains("Choose the image again"),
        "{said}"
    );
    server.revive().await?;

    for (how, file) in [("drop", &middle), ("paste", &wide)] {
        page.bring(how, &fs::read(file)?).await?;
        page.until_start().await?;
        page.find("start-rows").await?.send_keys(Key::End).await?;
        page.generate("red above blue", 1, 3).await?;
        page.until_state("finished").await?;
        assert_eq!(page.tokens(1).await?[..12], own[..12], "{how}");
        page.press("start-remove").await?;
        page.generate("red above blue", 1, 3).await?;
        page.until_state("finished").await?;
        assert_eq!(page.tokens(1).await?, picture::sample(&model, "red above blue", 1, 3)?, "removed");
    }

    page.bring("paste", b"no picture").await?;
    let said = page.browser.until("a notice about the file", async || page.text("notice").await).await?;
    ensure!(said.contains("cannot read this file as an image"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_model_without_an_encoder_offers_no_image_to_start_from() -> Result<()> {
    let folder = TempDir::new()?;
    copy_without(&models::tiny()?, folder.path(), "encoder.safetensors")?;
    let server = Server::start(folder.path(), &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    ensure!(page.text("start").await?.is_none());
    page.generate("red above blue", 1, 3).await?;
    page.until_state("finished").await?;
    let first = page.tokens(1).await?;
    page.press("choose-row-1").await?;
    page.press("redraw-1").await?;
    page.until_state("finished").await?;
    page.until_start().await.context("the rows that the image begins with are shown")?;
    assert_eq!(page.tokens(1).await?[..8], first[..8]);
    Ok(())
}

fn copy_without(from: &Path, to: &Path, left_out: &str) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != left_out {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
