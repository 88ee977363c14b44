//! Model folders: valid ones are read, and invalid ones are refused without hanging or panicking.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::config;
use dalle_model::Device;
use dalle_model::burn::tensor::FloatDType;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Encoder;
use dalle_model::precision::Precision;
use dalle_model::weights::to_safetensors;
use dalle_native::{FolderError, ModelFolder};
use dalle_shared::files::{CONFIG, ENCODER, PRIOR, TOKENIZER};
use dalle_shared::{Tokenizer, sha256_hex};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

fn write_config(folder: &Path, change: impl Fn(&mut ModelConfig)) {
    let mut config = config("tiny");
    change(&mut config);
    fs::write(folder.join(CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
}

/// A tokenizer of the 256 bytes.
fn tokenizer() -> String {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: Vec<(String, u32)> = alphabet.into_iter().map(String::from).zip(0..).collect();
    let vocab: [(String, u32); 256] = vocab.try_into().unwrap();
    let bpe = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
    Tokenizer::from_bpe(bpe).unwrap().to_json().unwrap()
}

/// The error message of a folder that must be refused.
fn refusal<T>(result: Result<T, FolderError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting_for_them() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path();
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for target in [pipe.as_path(), Path::new("/dev/zero"), folder] {
        write_config(folder, |_| ());
        let model = ModelFolder::open(folder).unwrap();
        for name in [TOKENIZER, PRIOR, ENCODER] {
            std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
            for said in [refusal(model.require(&[name])), refusal(model.read(name)), refusal(model.hash())] {
                assert!(said.ends_with(&format!("{name} is not a regular file")), "{said}");
            }
            fs::remove_file(folder.join(name)).unwrap();
        }
        fs::remove_file(folder.join(CONFIG)).unwrap();
        std::os::unix::fs::symlink(target, folder.join(CONFIG)).unwrap();
        let said = refusal(ModelFolder::open(folder));
        assert!(said.ends_with("config.json is not a regular file"), "{said}");
        fs::remove_file(folder.join(CONFIG)).unwrap();
    }
}

#[test]
fn control_characters_and_long_texts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said_of = |change: &dyn Fn(&mut ModelConfig)| {
        write_config(folder.path(), change);
        refusal(ModelFolder::open(folder.path()))
    };
    let newline = said_of(&|config| config.name = "a\nINFO forged".to_owned());
    assert!(
        newline.ends_with("config.json: `name` must have no control characters, got U+000A"),
        "{newline}"
    );
    let escape = said_of(&|config| config.license = "\u{1b}[2J".to_owned());
    assert!(escape.contains("`license` must have no control characters, got U+001B"), "{escape}");
    let long = said_of(&|config| config.name = "x".repeat(5_000_000));
    assert!(long.contains("is too large for a configuration: expected JSON of at most 1 MiB"), "{long}");
    let long = said_of(&|config| config.name = "é".repeat(101));
    assert!(long.contains("`name` must have at most 100 characters, got 101"), "{long}");
    let many = said_of(&|config| config.examples = vec![String::new(); 10_000]);
    assert!(many.contains("`examples` must be at most 1000, got 10000"), "{many}");
}

#[test]
fn a_tokenizer_with_duplicate_or_too_many_ids_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), |_| ());
    let model = ModelFolder::open(folder.path()).unwrap();
    let path = folder.path().join(TOKENIZER);
    let json = tokenizer();
    fs::write(&path, &json).unwrap();
    assert_eq!(model.tokenizer().unwrap().vocab_size(), 256);
    fs::write(&path, json.replace("\"a\": ", "\"a\": 1")).unwrap();
    let said = refusal(model.tokenizer());
    assert!(said.contains("tokenizer.json: ") && said.contains("no token has it"), "{said}");
    write_config(folder.path(), |config| config.text_vocab = 255);
    fs::write(&path, &json).unwrap();
    let said = refusal(ModelFolder::open(folder.path()).unwrap().tokenizer());
    assert!(said.contains("has 256 ids, but the configuration allows 255"), "{said}");
}

#[test]
fn an_encoder_is_checked_without_being_loaded() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), |_| ());
    let model = ModelFolder::open(folder.path()).unwrap();
    let encoder = Encoder::new(&model.config.dvae, &Device::flex());
    let (bytes, path) = (to_safetensors(&encoder, FloatDType::F16).unwrap(), folder.path().join(ENCODER));
    fs::write(&path, &bytes).unwrap();
    assert!(model.read_weights(ENCODER, &encoder).unwrap() == bytes);
    fs::write(&path, &bytes[..100]).unwrap();
    let said = refusal(model.read_weights(ENCODER, &encoder));
    assert!(said.contains("encoder.safetensors: ") && said.contains("damaged"), "{said}");
    let said = refusal(model.prior(&Device::flex(), Precision::F32));
    assert!(said.contains("model.safetensors") && said.contains("`dalle prior train`"), "{said}");
}

#[test]
fn a_file_loads_like_its_bytes_and_is_refused_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), |_| ());
    let (model, device) = (ModelFolder::open(folder.path()).unwrap(), Device::flex());
    let path = folder.path().join(ENCODER);
    for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
        let bytes = to_safetensors(&Encoder::new(&model.config.dvae, &device), dtype).unwrap();
        fs::write(&path, &bytes).unwrap();
        let again = |encoder| to_safetensors(&encoder, FloatDType::F32).unwrap();
        let fresh = || Encoder::new(&model.config.dvae, &device);
        let from_bytes = model.load_from(ENCODER, fresh(), &bytes).unwrap();
        assert!(again(model.load(ENCODER, fresh()).unwrap()) == again(from_bytes), "{dtype:?}");
        assert_eq!(model.sha256(ENCODER).unwrap(), sha256_hex(&bytes));

        let end = bytes.len();
        let huge = (u64::MAX / 2).to_le_bytes();
        let (longer, lying) = ([&bytes[..], &[0]].concat(), [&huge[..], &bytes[8..]].concat());
        let cut = [0, 7, 100, end - 1].map(|end| &bytes[..end]);
        for bytes in cut.into_iter().chain([&huge[..], &longer, &lying]) {
            fs::write(&path, bytes).unwrap();
            let said = refusal(model.encoder(&device));
            assert!(said.contains("encoder.safetensors: not a safetensors file, or a damaged one"), "{said}");
        }
        let mut infinite = bytes.clone();
        infinite[end - 4..].fill(0xFF);
        fs::write(&path, infinite).unwrap();
        let said = refusal(model.encoder(&device));
        assert!(said.contains("contains NaN or infinite values"), "{said}");
    }
}
