//! The decoder on WebGPU, with Chromium's software adapter.

use anyhow::{Result, ensure};

use crate::fixture::browser::SOFTWARE_WEBGPU;
use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::picture::{self, TOLERANCE};
use crate::fixture::server::Server;

#[tokio::test]
async fn webgpu_decodes_the_image_that_the_command_decodes() -> Result<()> {
    let model = models::tiny()?;
    let server = Server::start(&model, &[]).await?;
    let page = Page::open_with(&server.url("/?decoder=webgpu"), &SOFTWARE_WEBGPU).await?;
    let device = page.until_decoder_ready().await?;
    ensure!(device.starts_with("WebGPU"), "the page decodes on “{device}”");

    page.generate("yellow above black", 2, 3).await?;
    page.until_state("finished").await?;
    for number in [1, 2] {
        let (shown, tokens) = (page.pixels(number).await?, page.tokens(number).await?);
        let expected = picture::decode(&model, &tokens)?;
        let contrast = picture::contrast(&expected);
        ensure!(contrast > 4.0 * TOLERANCE, "too little contrast to compare: {contrast}");
        let difference = picture::difference(&shown, &expected)?;
        ensure!(difference <= TOLERANCE, "image {number} differs by {difference} of 255");
    }

    let folder = tempfile::TempDir::new()?;
    let png = folder.path().join("picture.png");
    page.pixels(1).await?.save(&png)?;
    page.choose_picture(&png).await?;
    page.find("start-rows").await?.send_keys(thirtyfour::Key::End).await?;
    page.generate("yellow above black", 1, 3).await?;
    page.until_state("finished").await?;
    assert_eq!(
        page.tokens(1).await?[..12],
        picture::encode(&model, &png)?[..12],
        "the tokens are those of the command"
    );

    let device = page.text("device").await?.unwrap_or_default();
    ensure!(device.starts_with("WebGPU"), "the page fell back to “{device}”");
    Ok(())
}

#[tokio::test]
async fn a_software_adapter_is_passed_over_for_the_cpu() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open_with(&server.url("/"), &SOFTWARE_WEBGPU).await?;
    let device = page.until_decoder_ready().await?;
    ensure!(device.starts_with("CPU"), "the page decodes on “{device}”");
    let why = page.find("device").await?.attr("title").await?.unwrap_or_default();
    ensure!(why.contains("is software"), "the page does not give the reason: “{why}”");
    Ok(())
}
