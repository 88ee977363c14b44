//! Ten thousand captions get the ids of Python's `tokenizers`. `e2e/tests/browser/tokenizing.rs` checks the same in a browser.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captions;

use captions::{BLOCK, DIGESTS, TOKENIZER, captions, lines};
use dalle_shared::{Tokenizer, sha256_hex};

fn ids(tokenizer: &Tokenizer, caption: &str) -> Vec<u32> {
    tokenizer.encode(caption, usize::MAX).unwrap().ids.into_iter().map(|id| id.0).collect()
}

#[test]
fn ten_thousand_captions_have_the_ids_of_pythons_tokenizers() {
    let tokenizer = Tokenizer::from_json(TOKENIZER.as_bytes()).unwrap();
    let captions = captions();
    assert_eq!(captions.len(), 10_000);
    assert!(captions.iter().any(|caption| caption.len() >= 1 << 16));
    let digests: Vec<&str> = DIGESTS.lines().collect();
    assert_eq!(digests.len() * BLOCK, captions.len());
    for (number, (block, digest)) in captions.chunks(BLOCK).zip(digests).enumerate() {
        let ids: Vec<Vec<u32>> = block.iter().map(|caption| ids(&tokenizer, caption)).collect();
        let first = number * BLOCK;
        assert_eq!(sha256_hex(lines(&ids).as_bytes()), digest, "captions {first} to {}", first + BLOCK - 1);
    }
}

#[test]
fn dropout_in_a_tokenizer_file_is_ignored() {
    let plain = Tokenizer::from_json(TOKENIZER.as_bytes()).unwrap();
    let with_dropout = TOKENIZER.replace("\"dropout\":null", "\"dropout\":0.9");
    assert_ne!(with_dropout, TOKENIZER);
    let with_dropout = Tokenizer::from_json(with_dropout.as_bytes()).unwrap();
    for caption in captions().iter().take(200) {
        assert_eq!(ids(&with_dropout, caption), ids(&plain, caption));
    }
}
