//! The model's files in the browser's Cache Storage, by hash, so that a second visit downloads nothing.
//!
//! Every failure here is a miss: private windows, full disks and pages over plain HTTP have no cache, and need none.

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, CacheStorage, Request, Response};

use crate::port::scope;

const NAME: &str = "dalle-model-files";
/// Files kept: those of the present model and of the one before.
const KEPT: u32 = 6;

/// The file with this hash, if it was kept. The caller checks it.
pub async fn get(sha256: &str) -> Option<Vec<u8>> {
    let cache = open().await?;
    let found = JsFuture::from(cache.match_with_str(&key(sha256))).await.ok()?;
    let response: Response = found.dyn_into().ok()?;
    let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
    Some(Uint8Array::new(&buffer).to_vec())
}

/// Keeps a file, and lets the oldest go.
pub async fn put(sha256: &str, bytes: &[u8]) {
    let _ = try_put(sha256, bytes).await;
}

async fn try_put(sha256: &str, bytes: &[u8]) -> Option<()> {
    let cache = open().await?;
    let response = Response::new_with_opt_js_u8_array(Some(&Uint8Array::from(bytes))).ok()?;
    JsFuture::from(cache.put_with_str(&key(sha256), &response)).await.ok()?;
    let keys: Array = JsFuture::from(cache.keys()).await.ok()?.dyn_into().ok()?;
    for old in keys.iter().take(keys.length().saturating_sub(KEPT) as usize) {
        JsFuture::from(cache.delete_with_request(&old.dyn_into::<Request>().ok()?)).await.ok()?;
    }
    Some(())
}

async fn open() -> Option<Cache> {
    // `caches` is undefined outside secure contexts.
    let caches: CacheStorage = Reflect::get(&scope(), &"caches".into()).ok()?.dyn_into().ok()?;
    JsFuture::from(caches.open(NAME)).await.ok()?.dyn_into().ok()
}

/// Caches are keyed by addresses: one that exists nowhere else.
fn key(sha256: &str) -> String {
    format!("/.dalle-model-files/{sha256}")
}
