//! Accessibility: names, roles, announcements, contrast.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::page::Page;
use crate::fixture::server::Server;
use crate::fixture::{environment, models};

/// Roles that require an accessible name.
const NAMED: [&str; 9] =
    ["button", "link", "textbox", "spinbutton", "img", "image", "progressbar", "region", "slider"];

/// Minimum contrast of text (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;

/// Helper functions of the two scripts that measure contrast.
const COLOURS: &str = r"
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = rgba(getComputedStyle(e).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255];
    };
    const contrast = (colour, ground, opacity) => {
        const mixed = rgba(colour).map((v, i) => v * opacity + ground[i] * (1 - opacity));
        const [a, b] = [luminance(mixed), luminance(ground)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    };";

const CONTRASTS: &str = r"
    const own = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    return [...document.querySelectorAll('body *')]
        .filter((e) => own(e) && e.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
        .filter((e) => !e.closest(':disabled, [aria-disabled=true], .unseen, script, noscript'))
        .map((e) => {
            const name = `${e.getAttribute('class') || e.tagName}: ${e.innerText.slice(0, 30)}`;
            return [name, contrast(getComputedStyle(e).color, ground(e), 1)];
        });";

/// Finds controls whose accessible name does not contain their visible text, which users of speech input say (WCAG 2.5.3).
const LABELS: &str = r"
    const words = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, ' ').trim();
    return [...document.querySelectorAll('button[aria-label], a[aria-label]')]
        .filter((e) => !words(e.getAttribute('aria-label')).includes(words(e.innerText)))
        .map((e) => `${e.innerText}: ${e.getAttribute('aria-label')}`);";

/// Measures the contrast of placeholders.
const PLACEHOLDERS: &str = r"
    return [...document.querySelectorAll('[placeholder]')].map((e) => {
        const style = getComputedStyle(e, '::placeholder');
        return [`${e.id}: ${e.placeholder}`, contrast(style.color, ground(e), parseFloat(style.opacity))];
    });";

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    ignored: bool,
    role: Option<Text>,
    name: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(default)]
    value: Value,
}

impl Node {
    fn role(&self) -> &str {
        self.role.as_ref().and_then(|role| role.value.as_str()).unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.name.as_ref().and_then(|name| name.value.as_str()).unwrap_or_default()
    }
}

#[tokio::test]
async fn every_control_and_image_has_a_name_and_the_page_its_landmarks() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above blue", 2, 4).await?;
    page.until_state("finished").await?;
    page.open_settings().await?;
    page.press("choose-row-2").await?;
    page.press("redraw-2").await?;
    page.until_state("finished").await?;
    page.until_start().await?;
    page.press("choose-row-1").await?;
    page.press("more-2").await?;

    let nodes = named_nodes(&page).await?;
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &nodes {
        *count.entry(node.role()).or_default() += 1;
    }
    for (role, expected) in [("main", 1), ("banner", 1), ("progressbar", 1)] {
        assert_eq!(count.get(role).copied().unwrap_or(0), expected, "{role} of {count:?}");
    }
    let named = |role: &str, name: &str| nodes.iter().any(|node| node.role() == role && node.name() == name);
    for (role, name) in [
        ("textbox", "Caption"),
        ("spinbutton", "Images"),
        ("textbox", "Seed"),
        ("button", "Generate"),
        ("button", "Save PNG of image 1"),
        ("link", "Tokens of image 2 as JSON"),
        ("button", "Regenerate image 1 from a row"),
        ("slider", "Keep 2 of 4 rows"),
        ("button", "Regenerate from here"),
        ("button", "Choose another"),
    ] {
        ensure!(named(role, name), "no {role} called “{name}”");
    }
    let pictures = nodes.iter().filter(|node| node.name().ends_with(": red above blue")).count();
    assert_eq!(pictures, 2, "each image is described by its caption");

    let mute: Vec<String> = page.browser.js(LABELS, ()).await?;
    ensure!(mute.is_empty(), "the name does not contain the visible text (WCAG 2.5.3): {mute:?}");

    let (language, headings, twins): (String, usize, Vec<String>) = page
        .browser
        .js(
            "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
             return [document.documentElement.lang, document.querySelectorAll('h1').length,
                 ids.filter((id, index) => ids.indexOf(id) !== index)]",
            (),
        )
        .await?;
    assert_eq!((language.as_str(), headings), ("en", 1));
    ensure!(twins.is_empty(), "duplicate ids: {twins:?}");
    Ok(())
}

/// The nodes of the accessibility tree, of which none is without a name that needs one.
async fn named_nodes(page: &Page) -> Result<Vec<Node>> {
    let tree = page.browser.devtools("Accessibility.getFullAXTree", json!({})).await?;
    let nodes: Vec<Node> = serde_json::from_value(tree["nodes"].clone()).context("no accessibility tree")?;
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| !node.ignored).collect();
    let nameless: Vec<&Node> =
        nodes.iter().filter(|node| NAMED.contains(&node.role()) && node.name().trim().is_empty()).collect();
    ensure!(nameless.is_empty(), "without a name: {nameless:?}");
    Ok(nodes)
}

#[tokio::test]
async fn the_explanation_has_names_tables_and_contrast() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    page.press("explain-1").await?;
    page.until_text("now", "likely").await?;
    for (lens, role, name) in [
        ("probabilities", "table", ""),
        ("attention", "slider", "Layer"),
        ("decoder", "image", "The image, step 4"),
        ("codebook", "button", "Present"),
        ("picture", "button", "Choose an image"),
    ] {
        page.press(&format!("tab-{lens}")).await?;
        let shown = async || {
            let nodes = named_nodes(&page).await?;
            let found = nodes.iter().any(|node| node.role() == role && node.name().contains(name));
            Ok(found.then_some(()))
        };
        page.browser.until(&format!("a {role} in {lens}"), shown).await?;
        let mute: Vec<String> = page.browser.js(LABELS, ()).await?;
        ensure!(mute.is_empty(), "the name does not contain the visible text (WCAG 2.5.3): {mute:?}");
        check_contrasts(&page).await?;
    }
    Ok(())
}

#[tokio::test]
async fn progress_and_errors_are_announced() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let announced = async |role: &str, words: &str| {
        let script =
            "return [...document.querySelectorAll(`[role=${arguments[0]}]`)].map((e) => e.textContent)";
        let found: Vec<String> = page.browser.js(script, role).await?;
        anyhow::Ok(found.iter().any(|text| text.contains(words)))
    };
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    ensure!(announced("status", "Done").await?, "the end is not announced");
    server.kill();
    page.press("generate").await?;
    page.until_trouble("No server answers").await?;
    ensure!(announced("alert", "No server answers").await?, "the error is not announced");
    Ok(())
}

#[tokio::test]
async fn text_has_enough_contrast_light_and_dark() -> Result<()> {
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    page.open_settings().await?;
    page.press("choose-row-1").await?;
    page.press("start-summary").await?;
    check_contrasts(&page).await?;
    server.kill();
    page.press("generate").await?;
    page.until_trouble("No server answers").await?;
    check_contrasts(&page).await
}

async fn check_contrasts(page: &Page) -> Result<()> {
    for dark in [false, true] {
        page.browser.emulate(1280, 800, dark).await?;
        let mut contrasts: Vec<(String, f64)> = page.browser.js(&format!("{COLOURS}{CONTRASTS}"), ()).await?;
        ensure!(contrasts.len() > 20, "only {contrasts:?}");
        let placeholders: Vec<(String, f64)> =
            page.browser.js(&format!("{COLOURS}{PLACEHOLDERS}"), ()).await?;
        ensure!(placeholders.len() >= 4, "only {placeholders:?}");
        contrasts.extend(placeholders);
        let weak: Vec<_> = contrasts.iter().filter(|(_, contrast)| *contrast < CONTRAST).collect();
        ensure!(weak.is_empty(), "dark: {dark}, less than {CONTRAST}: {weak:?}");
    }
    Ok(())
}

/// Runs axe-core, whose source is the argument, by the rules of WCAG 2.2 A and AA and its best practices.
const AXE: &str = "
    if (!window.axe) (0, eval)(arguments[0]);
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    return axe.run(document, { runOnly: tags, resultTypes: ['violations'] }).then(({ violations }) =>
        violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} ${failureSummary}`)))";

#[tokio::test]
async fn axe_finds_nothing_in_any_state_at_any_size_light_or_dark() -> Result<()> {
    let axe = std::fs::read_to_string(environment::axe()?)?;
    let mut server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    // The policy of the page forbids what the check needs.
    page.browser.devtools("Page.setBypassCSP", json!({ "enabled": true })).await?;
    page.reload().await?;
    page.until_state("idle").await?;
    page.until_decoder_ready().await?;
    let check = async |state: &str| -> Result<()> {
        for (width, height) in [(375, 812), (1024, 768), (1920, 1080)] {
            for dark in [false, true] {
                page.browser.emulate(width, height, dark).await?;
                let violations: Vec<String> = page.browser.js(AXE, axe.as_str()).await?;
                ensure!(violations.is_empty(), "{state} at {width}, dark {dark}: {violations:#?}");
            }
        }
        Ok(())
    };
    check("empty").await?;
    page.generate("red above blue", 2, 4).await?;
    page.until_state("finished").await?;
    page.open_settings().await?;
    page.press("more-1").await?;
    page.press("choose-row-2").await?;
    check("finished").await?;
    page.generate("white above black", 1, 5).await?;
    page.until_state("finished").await?;
    page.until_text("asked", "white above black").await?;
    page.press("favourite").await?;
    page.press("compare").await?;
    page.browser
        .js::<()>(
            "document.querySelectorAll('.kept-image').forEach((image) => image.click()); return null",
            (),
        )
        .await?;
    page.until_text("compared", "2 images side by side").await?;
    page.press("delete-all").await?;
    check("comparing").await?;
    page.press("explain-1").await?;
    page.until_text("now", "Token").await?;
    let tabs = "return [...document.querySelectorAll('[role=tab]')].map((tab) => tab.dataset.testid)";
    for tab in page.browser.js::<Vec<String>>(tabs, ()).await? {
        page.press(&tab).await?;
        check(&tab).await?;
    }
    page.press("present").await?;
    check("presenting").await?;
    page.press("explain-close").await?;
    server.kill();
    page.generate("gone", 1, 1).await?;
    page.until_trouble("No server answers").await?;
    check("failed").await
}
