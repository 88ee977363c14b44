//! The tokenizer of the browser, compiled natively, gives the ids of the library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captions;

use std::time::{Duration, Instant};

use captions::{TOKENIZER, captions};
use dalle_shared::{BrowserTokenizer, Tokenizer};
use proptest::prelude::*;

fn both() -> (Tokenizer, BrowserTokenizer) {
    let json = TOKENIZER.as_bytes();
    (Tokenizer::from_json(json).unwrap(), BrowserTokenizer::from_json(json).unwrap())
}

#[test]
fn ten_thousand_captions_have_the_ids_pieces_and_cuts_of_the_library() {
    let (library, browser) = both();
    for (index, caption) in captions().iter().enumerate() {
        let length = [usize::MAX, 31, 3][index % 3];
        assert_eq!(
            browser.encode(caption, length).unwrap(),
            library.encode(caption, length).unwrap(),
            "{caption:?}"
        );
    }
}

#[test]
fn every_character_is_split_from_its_neighbours_as_by_the_library() {
    let (library, browser) = both();
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for some in all.chunks(64) {
        let caption: String = some.iter().flat_map(|c| ['x', *c, '1', *c, '-', *c, ' ']).collect();
        let ids = |caption: &str| {
            (
                browser.encode(caption, usize::MAX).unwrap().ids,
                library.encode(caption, usize::MAX).unwrap().ids,
            )
        };
        let (got, expected) = ids(&caption);
        if got != expected {
            for c in some {
                let caption: String = ['x', *c, '1', *c, '-', *c, ' '].iter().collect();
                let (got, expected) = ids(&caption);
                assert_eq!(got, expected, "U+{:04X}", u32::from(*c));
            }
            panic!("{caption:?}");
        }
    }
}

#[test]
fn a_word_of_any_length_is_encoded_at_once() {
    let (library, browser) = both();
    let caption = "apple".repeat(40_000);
    let start = Instant::now();
    let encoding = browser.encode(&caption, 64).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(encoding, library.encode(&caption, 64).unwrap());
}

proptest! {
    #[test]
    fn any_text_has_the_ids_of_the_library(caption in "[a-z' \u{0}-\u{3000}\n0-9]{0,40}") {
        let (library, browser) = both();
        prop_assert_eq!(browser.encode(&caption, 64).unwrap(), library.encode(&caption, 64).unwrap());
    }
}

#[test]
fn other_tokenizers_and_damaged_files_are_refused() {
    let cases = [
        ("{}".to_owned(), "missing field"),
        (TOKENIZER.replacen("\"Lowercase\"", "\"NFC\"", 1), "lower-case"),
        (TOKENIZER.replacen("\"add_prefix_space\":true", "\"add_prefix_space\":false", 1), "lower-case"),
        (TOKENIZER.replacen("\"!\":", "\"!!!!\":", 1), "a byte has no token"),
    ];
    for (json, problem) in cases {
        assert_ne!(json, TOKENIZER);
        let error = BrowserTokenizer::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
