//! The model's files in the browser's Cache Storage, keyed by hash, so that a second visit downloads nothing.
//!
//! Every failure is a cache miss: private windows, full disks and pages over plain HTTP work without a cache.

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, CacheStorage, Request, Response};

use crate::port::scope;

const NAME: &str = "dalle-model-files";
/// Number of files kept: those of the present model and of the one before.
const KEPT: u32 = 8;

/// The cached file with this hash. The caller checks its content.
pub async fn get(sha256: &str) -> Option<Vec<u8>> {
    let cache = open().await?;
    let found = JsFuture::from(cache.match_with_str(&key(sha256))).await.ok()?;
    let response: Response = found.dyn_into().ok()?;
    let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
    Some(Uint8Array::new(&buffer).to_vec())
}

/// Caches a file and removes the oldest.
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

/// The key of a file. Caches are keyed by addresses, so this is one that no server has.
fn key(sha256: &str) -> String {
    format!("/.dalle-model-files/{sha256}")
}
