//! `dalle tokenizer train`: what the vocabulary is made of.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../shared/tests/captions/mod.rs"]
mod captions;
#[path = "../../prepare/tests/data_support/mod.rs"]
mod data_support;

use dalle_data::{DataError, Dataset, Split};
use dalle_prepare::tokenizer_train;
use dalle_shared::Tokenizer;
use dalle_train::bpe_dropout::BpeDropout;
use data_support::{Packages, options, run};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn dataset() -> Dataset {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();
    Dataset::open(&out).unwrap()
}

fn train(dataset: &Dataset, vocab: usize) -> Result<Tokenizer, DataError> {
    let captions = dataset.split(Split::Train).map(|example| Ok(example.captions.clone()));
    tokenizer_train::train(captions, vocab)
}

#[test]
fn words_of_the_captions_become_single_ids() {
    let tokenizer = train(&dataset(), 1000).unwrap();
    assert!(tokenizer.vocab_size() < 1000, "three captions have no 744 merges");
    let pieces = |caption: &str| tokenizer.encode(caption, 99).unwrap().pieces;
    assert_eq!(pieces("Red APPLE"), ["red", "apple"]);
    assert_eq!(pieces("green apple, fruit"), ["green", "apple", ",", "fruit"]);
    // A word that no caption holds is still spelled.
    let spaceship = tokenizer.encode("spaceship 🚀", 99).unwrap();
    assert!(spaceship.ids.len() > 4);
    assert_eq!(tokenizer.decode(&spaceship.ids).unwrap(), "spaceship 🚀");
}

#[test]
fn the_vocabulary_has_the_size_asked_for_and_is_the_same_each_time() {
    let dataset = dataset();
    let first = train(&dataset, 270).unwrap();
    assert_eq!(first.vocab_size(), 270);
    for _ in 0..4 {
        assert_eq!(train(&dataset, 270).unwrap().to_json().unwrap(), first.to_json().unwrap());
    }
    // A smaller vocabulary is the beginning of a larger one.
    let bytes = train(&dataset, 256).unwrap();
    assert_eq!(bytes.vocab_size(), 256);
    assert_eq!(bytes.encode("cat", 9).unwrap().ids.len(), 4, "a space and three letters");
}

#[test]
fn held_out_captions_are_not_looked_at() {
    let mut dataset = dataset();
    for example in &mut dataset.examples {
        if example.captions.label == "cat" {
            example.split = Split::Val;
        }
    }
    let tokenizer = train(&dataset, 1000).unwrap();
    assert_eq!(tokenizer.encode("apple", 9).unwrap().ids.len(), 1);
    assert!(tokenizer.encode("cat", 9).unwrap().ids.len() > 1);
    for example in &mut dataset.examples {
        example.split = Split::Val;
    }
    assert!(matches!(train(&dataset, 1000), Err(DataError::Nothing { .. })));
}

#[test]
fn captions_that_cannot_be_read_are_an_error_and_not_an_end() {
    let dataset = dataset();
    let captions = dataset.examples.iter().map(|example| match example.captions.label.as_str() {
        "cat" => Err(DataError::Tokenizer("a damaged shard".to_owned())),
        _ => Ok(example.captions.clone()),
    });
    let error = tokenizer_train::train(captions, 1000).unwrap_err().to_string();
    assert!(error.contains("a damaged shard"), "{error}");
}

#[test]
fn a_vocabulary_without_room_for_all_bytes_is_refused() {
    let error = train(&dataset(), 255).unwrap_err();
    assert!(matches!(error, DataError::Option { option: "vocab", .. }), "{error}");
}

#[test]
fn without_dropout_ten_thousand_captions_are_spelled_as_the_library_spells_them() {
    let tokenizer = Tokenizer::from_json(captions::TOKENIZER.as_bytes()).unwrap();
    let bpe = BpeDropout::new(tokenizer.clone(), 0.0).unwrap();
    for caption in captions::captions() {
        let ours = bpe.encode(&caption, usize::MAX, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        assert!(ours == tokenizer.encode(&caption, usize::MAX).unwrap().ids, "{caption:?}");
    }
}
