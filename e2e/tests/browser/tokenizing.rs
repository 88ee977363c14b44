//! The page's tokenizer gives the same ids as native code and Python.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::captions::{BLOCK, DIGESTS, TOKENIZER, captions};
use crate::fixture::models;
use crate::fixture::page::Page;
use crate::fixture::server::Server;

/// Computes a digest of the ids of each block of captions, with the page's own WebAssembly.
const SPELL: &str = "const [file, blocks] = arguments[0]; const bytes = text => new TextEncoder().encode(text); \
    return import(document.querySelector('link[rel=modulepreload]').href).then(async ({ CaptionTokenizer }) => { \
    const tokenizer = new CaptionTokenizer(bytes(file)), digests = []; \
    for (const block of blocks) { \
    const lines = block.map(caption => Array.from(tokenizer.encode(caption), id => id + ' ').join('') + '\\n'); \
    const digest = await crypto.subtle.digest('SHA-256', bytes(lines.join(''))); \
    digests.push(Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, '0')).join('')); } \
    return digests; })";

/// The same digests are checked natively (`shared/tests/tokenizing.rs`) and come from Python.
#[tokio::test]
async fn ten_thousand_captions_have_the_same_ids_in_the_browser() -> Result<()> {
    let server = Server::start(&models::tiny()?, &[]).await?;
    let page = Page::open(&server.url("/")).await?;
    let captions = captions();
    let blocks: Vec<&[String]> = captions.chunks(BLOCK).collect();
    let mut digests: Vec<String> = Vec::new();
    for blocks in blocks.chunks(10) {
        digests.extend(page.browser.js::<Vec<String>>(SPELL, json!([TOKENIZER, blocks])).await?);
    }
    assert_eq!(digests.len(), blocks.len());
    for (number, (digest, expected)) in digests.iter().zip(DIGESTS.lines()).enumerate() {
        let first = number * BLOCK;
        ensure!(
            digest == expected,
            "captions {first} to {} have other ids in the browser",
            first + BLOCK - 1
        );
    }
    Ok(())
}
