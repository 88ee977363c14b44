//! The history in IndexedDB: a JSON text for each entry, under the time of its request.
//!
//! Where the browser has no IndexedDB (some private windows), the history lives as long as the page.

use idb::{Database, DatabaseEvent, Error, Factory, ObjectStore, ObjectStoreParams, Query, TransactionMode};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use crate::saved::Saved;

const DATABASE: &str = "dalle";
const STORE: &str = "images";

/// All entries that can be read, in no order; None without IndexedDB.
pub async fn load() -> Option<Vec<Saved>> {
    let read = with_store(TransactionMode::ReadOnly, async |store| store.get_all(None, None)?.await);
    let values = read.await.ok()?;
    let parse = |value: JsValue| serde_json::from_str(&value.as_string()?).ok();
    Some(values.into_iter().filter_map(parse).collect())
}

/// Stores an entry, in place of one with its key.
pub fn put(saved: &Saved) {
    let Ok(json) = serde_json::to_string(saved) else { return };
    let key = key(saved.key());
    write(async move |store| store.put(&JsValue::from_str(&json), Some(&key))?.await.map(drop));
}

/// Removes entries.
pub fn delete(keys: Vec<u64>) {
    if keys.is_empty() {
        return;
    }
    write(async move |store| {
        for key in keys {
            store.delete(Query::Key(self::key(key)))?.await?;
        }
        Ok(())
    });
}

/// Removes all entries.
pub fn clear() {
    write(async |store| store.clear()?.await);
}

fn key(key: u64) -> JsValue {
    JsValue::from_f64(key as f64)
}

fn write(change: impl AsyncFnOnce(ObjectStore) -> Result<(), Error> + 'static) {
    spawn_local(async move {
        // Without IndexedDB the history lives as long as the page.
        let _ = with_store(TransactionMode::ReadWrite, change).await;
    });
}

async fn with_store<T>(
    mode: TransactionMode,
    work: impl AsyncFnOnce(ObjectStore) -> Result<T, Error>,
) -> Result<T, Error> {
    let database = open().await?;
    let transaction = database.transaction(&[STORE], mode)?;
    let done = work(transaction.object_store(STORE)?).await;
    if matches!(mode, TransactionMode::ReadWrite) {
        transaction.await?;
    }
    database.close();
    done
}

async fn open() -> Result<Database, Error> {
    let mut request = Factory::new()?.open(DATABASE, Some(1))?;
    request.on_upgrade_needed(|event| {
        if let Ok(database) = event.database() {
            let _ = database.create_object_store(STORE, ObjectStoreParams::new());
        }
    });
    request.await
}
