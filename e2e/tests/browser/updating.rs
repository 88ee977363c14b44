//! What stays in the browser after a new build of the page, or another model.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::fixture::host::Host;
use crate::fixture::page::Page;
use crate::fixture::{environment, models};

/// Copies a folder. Links take no room.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => {
                std::fs::copy(entry.path(), &target)?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_new_build_is_offered_and_used_when_the_person_wants_it() -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let site = folder.path().join("site");
    copy(&environment::site()?, &site)?;
    let model = site.join("model");
    models::run(std::process::Command::new(environment::site_program()?).arg(models::tiny()?).arg(&model))?;
    std::fs::write(site.join("config.json"), json!({ "backend": null, "model": "model/" }).to_string())?;
    let host = Host::of_folder(&site).await?;
    let page = Page::open(&format!("{}/", host.origin)).await?;
    let worker = "return navigator.serviceWorker.controller?.state === 'activated' || null";
    page.browser
        .until("a service worker", async || page.browser.js::<Option<bool>>(worker, Value::Null).await)
        .await?;

    let program = std::fs::read_to_string(site.join("sw.js"))?;
    let version = program.lines().find(|line| line.starts_with("const VERSION")).context("no version")?;
    std::fs::write(site.join("sw.js"), program.replace(version, "const VERSION = \"newer\";"))?;
    let _ = std::fs::remove_file(site.join("sw.js.gz"));
    page.reload().await?;
    page.until_text("update", "A new version of this page is ready.").await?;
    page.press("update-use").await?;
    let caches =
        "return caches.keys().then((names) => names.filter((name) => name.startsWith('dalle-page')))";
    let newer = async || -> Result<Option<()>> {
        let names: Vec<String> = page.browser.js(caches, Value::Null).await.unwrap_or_default();
        Ok((names.len() == 1 && names[0].ends_with("newer")).then_some(()))
    };
    page.browser.until("the cache of the new build alone", newer).await?;
    page.until_state("idle").await
}

#[tokio::test]
async fn files_of_models_that_are_no_longer_used_are_deleted() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    page.generate("red above blue", 1, 4).await?;
    page.until_state("finished").await?;
    let add = "return caches.open('dalle-model-files').then((cache) => \
        cache.put('/.dalle-model-files/0123456789', new Response('an old model'))).then(() => null)";
    page.browser.js::<()>(add, Value::Null).await?;
    let hashes = "return caches.open('dalle-model-files').then((cache) => cache.keys())\
        .then((keys) => keys.map(({ url }) => url.split('/').pop()))";
    let before: Vec<String> = page.browser.js(hashes, Value::Null).await?;
    page.reload().await?;
    let gone = async || -> Result<Option<Vec<String>>> {
        let now: Vec<String> = page.browser.js(hashes, Value::Null).await?;
        Ok(Some(now).filter(|now| !now.iter().any(|hash| hash == "0123456789")))
    };
    let after = page.browser.until("the file of the old model to go", gone).await?;
    assert_eq!(after.len() + 1, before.len(), "the files of the present model stay");
    Ok(())
}
