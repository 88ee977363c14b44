//! Downloads of the model's files, with progress in bytes, checked against the manifest.

use dalle_files::config::ModelConfig;
use dalle_shared::files::CONFIG;
use dalle_shared::{ModelFile, WorkerFailure, WorkerPart, WorkerReport, address, sha256_hex, to_hex};
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStreamDefaultReader, Response};

use crate::cache;
use crate::failure::Failure;
use crate::port::{scope, send};

/// The file's bytes: from the cache, or from `base` with progress of `part` reported.
///
/// # Errors
/// [`WorkerFailure::Download`] if it cannot be downloaded, [`WorkerFailure::WrongFile`] if size or hash differ.
pub async fn file(base: &str, file: &ModelFile, part: WorkerPart) -> Result<Vec<u8>, Failure> {
    if let Some(bytes) = cache::get(&file.sha256).await
        && check(file, &bytes).await.is_ok()
    {
        progress(part, file.bytes, file);
        return Ok(bytes);
    }
    let bytes = fetch(&address(base, &file.url), file, part).await?;
    check(file, &bytes).await?;
    cache::put(&file.sha256, &bytes).await;
    Ok(bytes)
}

/// The file of a manifest's list with this name.
///
/// # Errors
/// There is none.
pub fn listed<'a>(files: &'a [ModelFile], name: &str) -> Result<&'a ModelFile, Failure> {
    files.iter().find(|file| file.name == name).ok_or_else(|| {
        Failure::new(WorkerFailure::WrongFile, format!("the model's manifest lists no {name}"))
    })
}

/// The model's configuration, checked.
///
/// # Errors
/// As [`file`], or it is not a valid configuration.
pub async fn config(base: &str, files: &[ModelFile]) -> Result<ModelConfig, Failure> {
    let bytes = file(base, listed(files, CONFIG)?, WorkerPart::Weights).await?;
    let config: ModelConfig = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(WorkerFailure::WrongFile, format!("config.json: {error}")))?;
    config.validate().map_err(|error| Failure::new(WorkerFailure::WrongFile, error.to_string()))?;
    Ok(config)
}

async fn fetch(url: &str, file: &ModelFile, part: WorkerPart) -> Result<Vec<u8>, Failure> {
    let name = &file.name;
    let failed = |error: JsValue| {
        Failure::new(
            WorkerFailure::Download,
            format!("{name} could not be downloaded ({})", message_of(&error)),
        )
    };
    let response: Response =
        JsFuture::from(scope().fetch_with_str(url)).await.map_err(failed)?.unchecked_into();
    if !response.ok() {
        let status = response.status();
        return Err(Failure::new(
            WorkerFailure::Download,
            format!("{name} could not be downloaded: the server answered {status}"),
        ));
    }
    let Some(body) = response.body() else {
        return Err(Failure::new(
            WorkerFailure::Download,
            format!("{name} could not be downloaded: the answer has no content"),
        ));
    };
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut bytes = Vec::with_capacity(usize::try_from(file.bytes).unwrap_or_default());
    loop {
        let chunk = JsFuture::from(reader.read()).await.map_err(failed)?;
        if Reflect::get(&chunk, &"done".into()).is_ok_and(|done| done.is_truthy()) {
            return Ok(bytes);
        }
        let value = Reflect::get(&chunk, &"value".into()).map_err(failed)?;
        bytes.extend(Uint8Array::new(&value).to_vec());
        // A file that is too long is wrong, whatever follows.
        if bytes.len() as u64 > file.bytes {
            return Err(wrong_file(file, &format!("it is longer than {} bytes", file.bytes)));
        }
        progress(part, bytes.len() as u64, file);
    }
}

fn progress(part: WorkerPart, loaded: u64, file: &ModelFile) {
    send(&WorkerReport::Progress { part, loaded, total: Some(file.bytes) });
}

async fn check(file: &ModelFile, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() as u64 != file.bytes {
        return Err(wrong_file(file, &format!("it has {} bytes instead of {}", bytes.len(), file.bytes)));
    }
    let sha256 = digest(bytes).await;
    if sha256 != file.sha256 {
        return Err(wrong_file(file, &format!("its SHA-256 is {sha256} instead of {}", file.sha256)));
    }
    Ok(())
}

fn wrong_file(file: &ModelFile, how: &str) -> Failure {
    let message = format!("{} is not the file that the model's manifest describes: {how}", file.name);
    Failure::new(WorkerFailure::WrongFile, message)
}

/// SHA-256 in hexadecimal, by the browser's SubtleCrypto if available: several times faster, but missing on pages loaded over
/// plain HTTP from another machine.
async fn digest(bytes: &[u8]) -> String {
    let native = async {
        let crypto = scope().crypto().ok()?;
        let subtle = crypto.subtle();
        if subtle.is_undefined() {
            return None;
        }
        // A copy: another thread must not read WebAssembly's memory.
        let data = Uint8Array::from(bytes);
        let digest = subtle.digest_with_str_and_js_u8_array("SHA-256", &data).ok()?;
        let digest = Uint8Array::new(&JsFuture::from(digest).await.ok()?).to_vec();
        Some(to_hex(&digest))
    };
    match native.await {
        Some(sha256) => sha256,
        None => sha256_hex(bytes),
    }
}

/// The message of a JavaScript error.
pub fn message_of(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}
