//! Images are kept in the browser, and travel in links and files.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::fixture::host::Host;
use crate::fixture::page::Page;
use crate::fixture::{environment, models, picture};

/// Captions of the small images, in their order.
const KEPT: &str = "return [...document.querySelectorAll('.kept-image')].map((image) => image.ariaLabel)";

async fn open(host: &Host) -> Result<Page> {
    Page::open(&format!("{}/page/", host.origin)).await
}

async fn generate(page: &Page, caption: &str, samples: usize, seed: u64) -> Result<Vec<u16>> {
    page.generate(caption, samples, seed).await?;
    page.until_state("finished").await?;
    until_asked(page, caption).await?;
    page.tokens(1).await
}

/// Waits until the images on display have this caption.
async fn until_asked(page: &Page, caption: &str) -> Result<()> {
    page.until_text("asked", caption).await?;
    page.until_state("finished").await
}

async fn until_kept(page: &Page, captions: &[&str]) -> Result<()> {
    let same = async || -> Result<Option<()>> {
        let kept: Vec<String> = page.browser.js(KEPT, Value::Null).await?;
        Ok((kept == captions).then_some(()))
    };
    page.browser.until(&format!("these images: {captions:?}"), same).await
}

async fn press_kept(page: &Page, index: usize) -> Result<()> {
    let script = "document.querySelectorAll('.kept-image')[arguments[0]].click(); return null";
    page.browser.js(script, json!(index)).await
}

#[tokio::test]
async fn images_are_kept_over_reloads_and_back_and_forward_walk_them() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = open(&host).await?;
    let (red, white) = ("red above blue", "white above black");
    let first = generate(&page, red, 1, 4).await?;
    let second = generate(&page, white, 2, 5).await?;
    until_kept(&page, &["white above black, 2 images", red]).await?;

    page.browser.driver.back().await?;
    until_asked(&page, red).await?;
    assert_eq!(page.tokens(1).await?, first);
    page.browser.driver.forward().await?;
    until_asked(&page, white).await?;
    assert_eq!(page.tokens(1).await?, second);

    // A new visit knows nothing of this tab.
    page.browser.js::<()>("sessionStorage.clear(); return null", ()).await?;
    page.browser.driver.goto("about:blank").await?;
    page.browser.driver.goto(format!("{}/page/", host.origin)).await?;
    page.until_state("idle").await?;
    until_kept(&page, &["white above black, 2 images", red]).await?;
    press_kept(&page, 1).await?;
    until_asked(&page, red).await?;
    assert_eq!(page.tokens(1).await?, first);
    let caption: String = page.browser.js("return document.getElementById('caption').value", ()).await?;
    assert_eq!(caption, red);

    page.press("favourite").await?;
    until_kept(&page, &["white above black, 2 images", "red above blue, favourite"]).await?;
    page.press("only-favourites").await?;
    until_kept(&page, &["red above blue, favourite"]).await?;
    page.press("only-favourites").await?;
    page.press("compare").await?;
    press_kept(&page, 0).await?;
    press_kept(&page, 1).await?;
    page.until_text("compared", "2 images side by side").await?;
    page.until_text("compared", "seed 4").await?;
    page.press("compare").await?;

    page.press("delete").await?;
    until_kept(&page, &["white above black, 2 images"]).await?;
    page.until_state("idle").await?;
    page.reload().await?;
    page.until_state("idle").await?;
    until_kept(&page, &["white above black, 2 images"]).await?;
    page.press("delete-all").await?;
    page.press("delete-all-yes").await?;
    until_kept(&page, &[]).await?;
    page.reload().await?;
    page.until_state("idle").await?;
    until_kept(&page, &[]).await
}

#[tokio::test]
async fn a_link_carries_the_tokens_and_opens_as_their_image() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = open(&host).await?;
    page.open_settings().await?;
    page.fill("temperature", "5").await?;
    let tokens = generate(&page, "red above blue", 1, 4).await?;
    let has_tokens = async || {
        let url = page.browser.driver.current_url().await?.to_string();
        Ok(Some(url).filter(|url| url.contains("tokens=")))
    };
    let link = page.browser.until("an address with tokens", has_tokens).await?;
    // At this temperature the tokens depend on the seed: they must come from the link.
    let other_seed = link.replace("seed=4&", "seed=77&");
    ensure!(other_seed != link, "{link}");
    let other = Page::open_link(&other_seed).await?;
    assert_eq!(other.tokens(1).await?, tokens, "{link}");
    ensure!(other.pixels(1).await? == page.pixels(1).await?);
    ensure!(other.text("asked").await?.is_some_and(|asked| asked.contains("red above blue")));
    let damaged = Page::open_with(&link[..link.len() - 2], &[]).await?;
    damaged.until_text("notice", "The link is damaged").await?;
    Ok(())
}

#[tokio::test]
async fn a_saved_file_restores_its_image_and_the_command_reads_it() -> Result<()> {
    let model = models::tiny()?;
    let host = Host::without_server(&model, "/page").await?;
    let page = open(&host).await?;
    let tokens = generate(&page, "red above blue", 1, 4).await?;
    page.press("download-1").await?;
    let file = page.browser.download("_4.png").await?;

    let folder = tempfile::TempDir::new()?;
    let path = folder.path().join("saved.png");
    std::fs::write(&path, &file)?;
    let said = models::run(Command::new(environment::dalle()?).arg("info").arg(&path))?;
    ensure!(said.contains("red above blue") && said.contains('4'), "dalle info says:\n{said}");

    let other = open(&host).await?;
    other.bring("drop", &file).await?;
    until_asked(&other, "red above blue").await?;
    assert_eq!(other.tokens(1).await?, tokens);
    until_kept(&other, &["red above blue"]).await?;

    // A file of the command is restored too.
    let sampled = folder.path().join("sampled.png");
    let mut command = Command::new(environment::dalle()?);
    command.args(["sample", "white above red", "--seed", "9", "--samples", "2", "--model"]).arg(&model);
    models::run(command.arg("--out").arg(&sampled))?;
    other.bring("paste", &std::fs::read(&sampled)?).await?;
    until_asked(&other, "white above red").await?;
    assert_eq!(other.tokens(1).await?, picture::sample(&model, "white above red", 2, 9)?);
    other.browser.driver.back().await?;
    until_asked(&other, "red above blue").await?;

    // The model of this page cannot decode the tokens of another.
    let shipped = folder.path().join("shipped.png");
    let mut command = Command::new(environment::dalle()?);
    command.args(["sample", "red apple", "--model"]).arg(environment::shipped_model()?);
    models::run(command.arg("--out").arg(&shipped))?;
    other.bring("drop", &std::fs::read(&shipped)?).await?;
    other.until_text("notice", "another model").await
}

#[tokio::test]
async fn images_are_copied_enlarged_and_saved_on_one_sheet() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = open(&host).await?;
    generate(&page, "red above blue", 4, 4).await?;
    page.press("more-2").await?;
    page.press("enlarged-2").await?;
    let large = image::load_from_memory(&page.browser.download("_5.x4.png").await?)?.to_rgb8();
    assert_eq!(large.dimensions(), (128, 128), "four times 32 pixels");

    page.press("save-sheet").await?;
    let file = page.browser.download("_4.sheet.png").await?;
    let sheet = image::load_from_memory(&file)?.to_rgb8();
    ensure!(sheet.width() > 512 && sheet.height() > 512, "{:?}", sheet.dimensions());
    let small = page.pixels(1).await?;
    let middle = sheet.get_pixel(24 + 128, 24 + 40).0;
    let expected = small.get_pixel(16, 5).0;
    let far = middle.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().context("a pixel")?;
    ensure!(far < 12, "the first image is on the sheet: {middle:?} and {expected:?}");
    ensure!(
        sheet.rows().skip(24 + 256).take(40).flatten().any(|pixel| pixel.0[0] < 90),
        "captions are written"
    );

    let origin =
        json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": host.origin });
    page.browser.devtools("Browser.grantPermissions", origin).await?;
    page.press("copy-2").await?;
    page.until_text("copy-2", "Copied").await?;
    let read = "return navigator.clipboard.read().then(([item]) => item.getType('image/png'))\
        .then((blob) => createImageBitmap(blob)).then((image) => [image.width, image.height])";
    let size: [u32; 2] = page.browser.js(read, ()).await?;
    assert_eq!(size, [32, 32]);

    page.press("contact-sheet").await?;
    let all = image::load_from_memory(&page.browser.download("contact-sheet.png").await?)?;
    ensure!(all.width() > 256);

    let other = open(&host).await?;
    other.bring("drop", &file).await?;
    until_asked(&other, "red above blue").await?;
    for number in 1..=4 {
        assert_eq!(other.tokens(number).await?, page.tokens(number).await?);
    }
    Ok(())
}
