//! The layout at the widths of a phone and of desktop screens, light and dark.
//!
//! With `DALLE_SHOTS=folder`, screenshots are saved there for manual inspection.

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::fixture::host::Host;
use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{LONG, environment, models};

const SIZES: [(u32, u32); 3] = [(375, 812), (1280, 800), (1920, 1080)];

/// Measurements of the layout.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    /// CSS pixels by which the page is wider than the window.
    overflow: f64,
    /// Parts that extend beyond the right edge of the window.
    sticking_out: Vec<String>,
    background: String,
    ink: String,
    /// Controls smaller than 24 CSS pixels (WCAG 2.2, 2.5.8), with their sizes.
    small: Vec<String>,
}

/// Scrolls to the top, and waits for colour transitions to end.
const SETTLE: &str = "
    scrollTo(0, 0);
    const ends = (animation) => animation.effect.getComputedTiming().endTime < Infinity;
    return Promise.all(document.getAnimations().filter(ends).map((animation) => animation.finished)).then(() => null)";

const LOOK: &str = "
    const root = document.documentElement, style = getComputedStyle(root);
    const visible = (element) => element.checkVisibility({ visibilityProperty: true });
    const name = (element) => element.dataset.testid || element.getAttribute('class') || element.tagName;
    const all = [...document.querySelectorAll('main *, header *, section *')].filter(visible);
    const clipped = (element) => element.closest('.unseen, .chips, .skip, .bar');
    return {
        overflow: root.scrollWidth - root.clientWidth,
        stickingOut: all.filter((e) => !clipped(e) && e.getBoundingClientRect().right > root.clientWidth + 1).map(name),
        background: style.backgroundColor,
        ink: style.color,
        small: all.filter((e) => e.matches('button, a, input, textarea, summary'))
            .map((e) => [e, e.getBoundingClientRect()])
            .filter(([, r]) => Math.min(r.width, r.height) < 23.5)
            .map(([e, r]) => `${name(e)} ${r.width}x${r.height}`),
    };";

#[tokio::test]
async fn the_finished_page_fits_every_width_light_and_dark() -> Result<()> {
    let server = Server::start(&environment::shipped_model()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate(
        "a green apple beside a very long sentence that no narrow window can hold in one line",
        4,
        42,
    )
    .await?;
    page.until_state_within(LONG, "finished").await?;
    let folder = tempfile::TempDir::new()?;
    let picture = folder.path().join("picture.png");
    page.pixels(1).await?.save(&picture)?;
    page.choose_picture(&picture).await?;
    page.press("choose-row-2").await?;
    for (width, height) in SIZES {
        let mut grounds = Vec::new();
        for dark in [false, true] {
            let look = check(&page, (width, height), dark, "finished").await?;
            ensure!(look.background != look.ink, "{look:?}");
            grounds.push((look.background, look.ink));
        }
        ensure!(
            grounds[0].0 != grounds[1].0 && grounds[0].1 != grounds[1].1,
            "light and dark do not differ: {grounds:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_empty_page_a_sheet_of_nine_and_a_message_fit_a_phone() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let phone = SIZES[0];
    check(&page, phone, false, "empty").await?;
    page.generate("Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen", 9, u64::MAX).await?;
    page.until_state("finished").await?;
    check(&page, phone, true, "nine").await?;
    server.kill();
    page.generate("gone", 1, 1).await?;
    page.until_trouble("No server answers").await?;
    check(&page, phone, false, "message").await?;
    Ok(())
}

#[tokio::test]
async fn the_explanation_fits_every_width_and_a_projector_without_scrolling() -> Result<()> {
    let host = Host::without_server(&environment::shipped_model()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.generate("red apple", 1, 42).await?;
    page.until_state_within(LONG, "finished").await?;
    page.press("explain-1").await?;
    page.until_text("now", "likely").await?;
    for lens in ["probabilities", "attention", "decoder", "codebook", "picture"] {
        page.press(&format!("tab-{lens}")).await?;
        for (size, dark) in SIZES.into_iter().zip([false, true, false]) {
            check(&page, size, dark, lens).await?;
        }
    }
    page.browser.emulate(1024, 768, false).await?;
    page.press("present").await?;
    let rest: f64 = page
        .browser
        .js("return document.documentElement.scrollHeight - document.documentElement.clientHeight", ())
        .await?;
    ensure!(rest <= 0.0, "{rest} pixels are below the fold");
    check(&page, (1024, 768), false, "presenting").await?;
    let folder = tempfile::TempDir::new()?;
    let picture = folder.path().join("picture.png");
    page.pixels(1).await?.save(&picture)?;
    page.press("tab-picture").await?;
    page.find("picture-file").await?.send_keys(picture.to_string_lossy()).await?;
    page.until_text("picture-summary", "PSNR").await?;
    let rest = "return document.querySelector('.lens-box').scrollHeight - document.querySelector('.lens-box').clientHeight";
    for pressed in ["tab-picture", "tab-decoder", "view-change"] {
        page.press(pressed).await?;
        let rest: f64 = page.browser.js(rest, ()).await?;
        ensure!(rest <= 0.0, "{rest} pixels of {pressed} are below the fold");
        check(&page, (1024, 768), false, &format!("presenting-{pressed}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn on_a_small_phone_generate_is_above_the_fold_and_one_image_fills_the_width() -> Result<()> {
    let server = Server::start(&environment::shipped_model()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.browser.emulate(375, 667, false).await?;
    let rect = async |part: &str| -> Result<[f64; 2]> {
        let script = "const r = document.querySelector(`[data-testid=${arguments[0]}]`).getBoundingClientRect(); \
            return [r.width, r.bottom]";
        page.browser.js(script, part).await
    };
    let [_, bottom] = rect("generate").await?;
    ensure!(bottom <= 667.0, "Generate ends at {bottom} of 667 pixels");
    page.generate("red apple", 1, 42).await?;
    page.until_state_within(LONG, "finished").await?;
    let [width, _] = rect("picture-1").await?;
    ensure!(width > 0.85 * 375.0, "the image is {width} of 375 pixels wide");
    Ok(())
}

#[tokio::test]
async fn the_button_for_dark_colours_works_and_is_remembered() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let ground = async || -> Result<String> {
        page.browser.js("return getComputedStyle(document.documentElement).backgroundColor", ()).await
    };
    let button = "[aria-label=\"Dark colours\"]";
    page.browser.emulate(1280, 800, false).await?;
    let light = ground().await?;
    page.browser.driver.find(thirtyfour::By::Css(button)).await?.click().await?;
    let dark = ground().await?;
    ensure!(light != dark, "the colours stay {light}");
    page.reload().await?;
    page.until_state("idle").await?;
    assert_eq!(ground().await?, dark, "the choice survives a reload");
    Ok(())
}

async fn check(page: &Page, (width, height): (u32, u32), dark: bool, name: &str) -> Result<Look> {
    page.browser.emulate(width, height, dark).await?;
    page.browser.js::<()>(SETTLE, ()).await?;
    if let Some(folder) = environment::shots() {
        std::fs::create_dir_all(&folder)?;
        let scheme = if dark { "dark" } else { "light" };
        page.browser.screenshot(&folder.join(format!("{name}-{width}-{scheme}.png"))).await?;
    }
    let look: Look = page.browser.js(LOOK, ()).await?;
    if look.overflow > 0.0 || !look.sticking_out.is_empty() || !look.small.is_empty() {
        return Err(page.browser.complaint(&format!("at {width} pixels, {name}: {look:?}")).await);
    }
    Ok(look)
}
