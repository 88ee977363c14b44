//! Deletes files of models that no page of this origin uses any more from the browser's cache, into which the workers put them.
//!
//! Several pages may share an origin and this cache. Each writes down which files its manifest names; what none of them names is deleted.

use std::collections::{BTreeMap, BTreeSet};

use dalle_shared::ModelManifest;
use js_sys::{Array, Reflect};
use leptos::prelude::window;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Cache, CacheStorage, Request};

use crate::browser;

/// The workers' cache.
const CACHE: &str = "dalle-model-files";
/// Where the pages of this origin write down the hashes of their files.
const NAMED: &str = "dalle.models";

/// The hashes of the files that each page uses, by the page's folder.
type Named = BTreeMap<String, BTreeSet<String>>;

/// Writes down the files of a manifest, and deletes those that no page names.
pub fn keep_only(manifest: &ModelManifest) {
    let Some(storage) = browser::local_storage() else { return };
    let stored = storage.get_item(NAMED).ok().flatten();
    let mut named: Named = stored.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    let own = manifest.files.iter().map(|file| file.sha256.clone()).collect();
    named.insert(browser::base_path(), own);
    let Ok(json) = serde_json::to_string(&named) else { return };
    // Files of other pages must not be deleted because this page could not read what it wrote.
    if storage.set_item(NAMED, &json).is_ok() {
        spawn_local(async move {
            // Without a cache there is nothing to delete.
            let _ = delete_unnamed(&named).await;
        });
    }
}

async fn delete_unnamed(named: &Named) -> Option<()> {
    // `caches` is undefined outside secure contexts.
    let caches: CacheStorage = Reflect::get(&window(), &"caches".into()).ok()?.dyn_into().ok()?;
    let cache: Cache = JsFuture::from(caches.open(CACHE)).await.ok()?.dyn_into().ok()?;
    let keys: Array = JsFuture::from(cache.keys()).await.ok()?.dyn_into().ok()?;
    for key in keys.iter() {
        let request: Request = key.dyn_into().ok()?;
        if !is_named(named, &request.url()) {
            JsFuture::from(cache.delete_with_request(&request)).await.ok()?;
        }
    }
    Some(())
}

/// Whether a page uses the file under this address in the cache, which ends with its hash.
fn is_named(named: &Named, address: &str) -> bool {
    let hash = address.rsplit('/').next().unwrap_or_default();
    named.values().any(|files| files.contains(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_as_long_as_a_page_names_it() {
        let files = |hashes: &[&str]| hashes.iter().map(|hash| (*hash).to_owned()).collect::<BTreeSet<_>>();
        let named: Named =
            [("".to_owned(), files(&["ab", "cd"])), ("/other".to_owned(), files(&["ef"]))].into();
        for (hash, kept) in [("ab", true), ("ef", true), ("a", false), ("old", false), ("", false)] {
            let address = format!("https://page.example/.dalle-model-files/{hash}");
            assert_eq!(is_named(&named, &address), kept, "{hash}");
        }
    }
}
