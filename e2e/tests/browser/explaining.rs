//! The explanation of an image: timeline, probabilities, forced tokens, decoder, codebook, a picture of one's own.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;
use thirtyfour::Key;

use crate::fixture::host::Host;
use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::picture::{TOLERANCE, contrast, decode, difference, encode, sample_from_hot};

const CAPTION: &str = "blue above white";
/// The side of the tiny model's grid.
const GRID: usize = 4;

/// A page without a server that explains an image of the tiny model. At such a high temperature many tokens are likely.
async fn explained() -> Result<(Host, Page)> {
    explained_at("2").await
}

async fn explained_at(temperature: &str) -> Result<(Host, Page)> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.open_settings().await?;
    page.fill("temperature", temperature).await?;
    page.generate(CAPTION, 1, 8).await?;
    page.until_state("finished").await?;
    page.press("explain-1").await?;
    // The prior reads the image again.
    page.until_text("now", "likely").await?;
    Ok((host, page))
}

/// Tokens as a link holds them; see `frontend/src/packing.rs`.
fn pack(tokens: &[u16]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: String = tokens.iter().map(|token| format!("{token:06b}")).collect();
    let text: String = bits
        .as_bytes()
        .chunks(6)
        .map(|six| char::from(digits[usize::from_str_radix(&String::from_utf8_lossy(six), 2).unwrap_or(0)]))
        .collect();
    format!("{}.6.{text}", tokens.len())
}

#[tokio::test]
async fn the_timeline_goes_to_every_token_by_buttons_slider_and_keys() -> Result<()> {
    let (_host, page) = explained().await?;
    page.until_text("now", "Token 16 of 16: row 4, column 4").await?;
    page.press("first").await?;
    page.until_text("now", "Token 1 of 16: row 1, column 1").await?;
    page.press("forward").await?;
    page.until_text("now", "Token 2 of 16").await?;
    page.find("scrub").await?.send_keys(Key::Right + Key::Right).await?;
    page.until_text("now", "Token 4 of 16").await?;
    page.find("explain-tokens").await?.send_keys(Key::Down + Key::Left).await?;
    page.until_text("now", "Token 7 of 16: row 2, column 3").await?;
    page.until_text("pointed", "Row 2, column 3: code ").await?;
    // Only the pixels of tokens that are there are seen.
    page.until_opaque("explain-pixels", 7 * 64).await?;
    page.click_at("explain-tokens", 0.9, 0.1).await?;
    page.until_text("now", "Token 4 of 16: row 1, column 4").await?;
    page.press("play").await?;
    page.until_text("now", "Token 16 of 16").await?;
    page.press("explain-close").await?;
    ensure!(page.text("now").await?.is_none(), "the explanation is still open");
    let faults = page.browser.console("SEVERE").await?;
    ensure!(faults.is_empty(), "the console has errors: {faults:?}");
    Ok(())
}

#[tokio::test]
async fn a_forced_token_continues_as_a_branch_which_a_link_with_these_tokens_gives_too() -> Result<()> {
    let (host, page) = explained().await?;
    let tokens = page.tokens(1).await?;
    // The last token of the first row, so that a link can begin with the row.
    page.press("first").await?;
    page.find("scrub").await?.send_keys(Key::Right + Key::Right + Key::Right).await?;
    page.until_text("now", "Token 4 of 16").await?;
    let offered = async || {
        let read = "part.dataset.position !== '3' ? null : \
            [...part.querySelectorAll('[data-testid^=force-]')].map((e) => Number(e.dataset.testid.slice(6)))";
        page.part::<Vec<u16>>("choices", read).await
    };
    let codes = page.browser.until("what could come there", offered).await?;
    assert!(codes.len() >= 11 && !codes.contains(&tokens[3]), "{codes:?}");
    let forced = *codes.get(2).context("no third code")?;
    page.press(&format!("force-{forced}")).await?;
    page.until_text("branch-1", "row 1, column 4").await?;
    page.until_text("now", "forced by you").await?;
    page.press("last").await?;
    page.until_opaque("explain-pixels", 32 * 32).await?;
    let branch = page.canvas("explain-pixels").await?;

    let row = [tokens[0], tokens[1], tokens[2], forced];
    let fragment =
        format!("#caption={}&n=1&seed=8&temperature=2&start={}", CAPTION.replace(' ', "+"), pack(&row));
    let other = Page::open_link(&format!("{}/page/{fragment}", host.origin)).await?;
    assert_eq!(other.tokens(1).await?[..GRID], row);
    ensure!(other.pixels(1).await? == branch, "the branch is not what its link gives");

    // The image as it was sampled is still there.
    page.press("branch-0").await?;
    page.press("explain-close").await?;
    assert_eq!(page.tokens(1).await?, tokens);
    Ok(())
}

#[tokio::test]
async fn probabilities_follow_the_temperature_and_the_codebook_shows_what_a_code_changes() -> Result<()> {
    let (_host, page) = explained().await?;
    let shares = async || {
        let read = "[...part.querySelectorAll('tbody td:nth-child(3)')].map((e) => e.innerText.trim())";
        page.part::<Vec<String>>("choices", read).await
    };
    let before = page.browser.until("probabilities", shares).await?;
    // At temperature 0 a single token is left.
    page.find("explain-temperature").await?.send_keys(Key::Home + "").await?;
    page.browser
        .until("a single token", async || {
            let shares = shares().await?.unwrap_or_default();
            Ok((shares.iter().filter(|share| *share == "cut").count() == 11).then_some(()))
        })
        .await?;
    ensure!(before.iter().filter(|share| *share == "cut").count() == 0, "{before:?}");

    page.press("tab-codebook").await?;
    page.until_text("codebook-summary", "of 64 codes").await?;
    page.until_text("codebook-summary", "bits").await?;
    page.click_at("codebook", 0.02, 0.25).await?;
    page.press("paint").await?;
    page.browser
        .until("changed pixels", async || {
            Ok(Some(page.opaque("difference").await?).filter(|count| *count > 64))
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_decoders_last_step_is_the_image_and_a_token_changes_what_dalle_says() -> Result<()> {
    let (_host, page) = explained().await?;
    let tokens = page.tokens(1).await?;
    page.press("tab-decoder").await?;
    page.until_opaque("stage-4", 32 * 32).await?;
    let image = page.canvas("stage-4").await?;
    ensure!(image == page.canvas("explain-pixels").await?, "the last step is not the image");
    for (step, side) in [(1, 4), (2, 8), (3, 16)] {
        let picture = page.canvas(&format!("stage-{step}")).await?;
        assert_eq!(picture.dimensions(), (side, side));
        ensure!(contrast(&picture) > 0.0, "step {step} is blank");
    }
    // Only what is there is seen.
    page.press("first").await?;
    page.until_opaque("stage-1", 1).await?;
    page.until_opaque("stage-4", 64).await?;

    page.press("view-change").await?;
    page.until_text("influence", "It changes").await?;
    let code: u16 = page.part("replacement", "Number(part.value)").await?.context("no replacement")?;
    ensure!(code != tokens[0], "the token replaces itself");
    let mut changed = tokens.clone();
    changed[0] = code;
    let model = models::tiny()?;
    let (whole, changed) = (decode(&model, &tokens)?, decode(&model, &changed)?);
    let most = whole.as_raw().iter().zip(changed.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    let shown = async |row: usize| {
        let read = format!("Number(part.tBodies[0].rows[{row}].cells[3].innerText)");
        page.part::<u8>("influence-steps", &read).await
    };
    // In a closed table, text is not rendered.
    page.browser
        .js::<()>("document.querySelectorAll('details').forEach((part) => part.open = true)", ())
        .await?;
    let shown = shown(3).await?.context("no table")?;
    ensure!(most.is_some_and(|most| most.abs_diff(shown) <= 2), "{most:?} instead of {shown}");
    let rings = "[...part.tBodies[0].rows].map((row) => Number(row.cells[3].innerText))";
    let rings: Vec<u8> = page.part("influence-rings", rings).await?.context("no table")?;
    assert_eq!((rings.len(), rings.iter().max()), (GRID, Some(&shown)));
    // Another code, by keys.
    let other = (0..64).find(|other| ![code, tokens[0]].contains(other)).unwrap_or_default();
    page.fill("replacement", &other.to_string()).await?;
    page.find("replacement").await?.send_keys(Key::Tab).await?;
    page.until_text("influence", "It changes").await?;
    let value: u16 = page.part("replacement", "Number(part.value)").await?.context("no replacement")?;
    assert_eq!(value, other);
    Ok(())
}

#[tokio::test]
async fn a_picture_of_ones_own_is_compared_with_what_is_decoded_and_continued_as_dalle_does() -> Result<()> {
    let (_host, page) = explained_at("1").await?;
    let model = models::tiny()?;
    let folder = TempDir::new()?;
    let file = folder.path().join("own.png");
    let own = RgbImage::from_fn(32, 32, |x, y| Rgb(if x + y < 32 { [220, 40, 40] } else { [245, 245, 245] }));
    own.save(&file)?;
    page.press("tab-picture").await?;
    page.find("picture-file").await?.send_keys(file.to_str().context("not UTF-8")?).await?;
    page.until_text("picture-summary", "PSNR").await?;
    ensure!(page.canvas("picture-original").await? == own, "it is not the image that was chosen");
    let tokens = encode(&model, &file)?;
    let decoded = page.canvas("picture-reconstruction").await?;
    let apart = difference(&decoded, &decode(&model, &tokens)?)?;
    ensure!(apart < TOLERANCE, "the pixels are {apart} of 255 from those of dalle");
    let squares: f64 =
        own.as_raw().iter().zip(decoded.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let psnr = 10.0 * (255.0_f64.powi(2) * own.as_raw().len() as f64 / squares).log10();
    page.until_text("picture-summary", &format!("PSNR {psnr:.1} dB")).await?;
    ensure!(page.opaque("picture-error").await? > 0, "no error is seen");
    page.until_text("branch-1", "Your picture").await?;
    page.until_text("now", "from your picture").await?;

    page.find("picture-rows").await?.send_keys(Key::Home + Key::Right).await?;
    page.press("picture-continue").await?;
    page.until_text("branch-2", "from row 3").await?;
    page.until_opaque("explain-pixels", 32 * 32).await?;
    let expected = sample_from_hot(&model, CAPTION, 8, &file, 2, "1")?;
    assert_eq!(expected[..2 * GRID], tokens[..2 * GRID]);
    let expected = decode(&model, &expected)?;
    page.browser
        .until("what dalle samples", async || {
            let apart = difference(&page.canvas("explain-pixels").await?, &expected)?;
            Ok((apart < TOLERANCE).then_some(()))
        })
        .await?;
    let faults = page.browser.console("SEVERE").await?;
    ensure!(faults.is_empty(), "the console has errors: {faults:?}");
    Ok(())
}

#[tokio::test]
async fn a_photograph_is_turned_upright_and_a_dropped_file_is_explained() -> Result<()> {
    let (_host, page) = explained().await?;
    let halves = RgbImage::from_fn(64, 64, |x, _| Rgb(if x < 32 { [220, 40, 40] } else { [40, 70, 210] }));
    let mut jpeg = Vec::new();
    halves.write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)?;
    // EXIF says that the left side of what is stored is the top (orientation 6).
    let exif = [
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0".as_slice(),
        b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".as_slice(),
    ]
    .concat();
    jpeg.splice(2..2, exif);
    page.bring("drop", &jpeg).await?;
    page.until_text("picture-summary", "PSNR").await?;
    let original = page.canvas("picture-original").await?;
    let (top, bottom) = (original.get_pixel(16, 4), original.get_pixel(16, 28));
    ensure!(top[0] > 180 && bottom[2] > 180, "{top:?} above {bottom:?}");
    ensure!(page.text("start-status").await?.unwrap_or_default().is_empty(), "the form took it too");
    Ok(())
}

#[tokio::test]
async fn a_link_to_a_lesson_explains_an_example() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = Page::open_with(&format!("{}/page/#lesson=2", host.origin), &[]).await?;
    page.until_text("lesson", "2 of 7: An image is a grid of tokens").await?;
    page.until_text("codebook-summary", "of 64 codes").await?;
    page.press("lesson-next").await?;
    page.until_text("lesson", "3 of 7").await?;
    page.until_text("now", "Token 1 of 16").await?;
    page.browser.driver.back().await?;
    page.until_text("lesson", "2 of 7").await?;
    Ok(())
}
