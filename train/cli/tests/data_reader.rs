//! Reading a dataset folder, damage to it, and drawing captions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../prepare/tests/data_support/mod.rs"]
mod data_support;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use dalle_data::{Captions, DataError, Dataset, MANIFEST, sanitise_key};
use dalle_eval::sheet::{Cell, contact_sheet};
use data_support::{Packages, options, run};
use image::{Rgb, RgbImage};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn dataset() -> (Packages, PathBuf) {
    let packages = Packages::with_three_drawings();
    let out = packages.root().join("out");
    run(&packages.input(&["fluent-flat"]), &options(), &out, false).unwrap();
    (packages, out)
}

#[test]
fn every_damage_to_a_shard_is_noticed_and_the_shard_named() {
    let (_packages, out) = dataset();
    let shard = out.join("shard-000001.tar");
    let intact = std::fs::read(&shard).unwrap();
    let damaged = |bytes: &[u8]| {
        std::fs::write(&shard, bytes).unwrap();
        match Dataset::open(&out) {
            Err(DataError::Damaged { path, message }) if path == shard => message,
            other => panic!("expected damage to be noticed, got {other:?}"),
        }
    };
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    assert!(damaged(&flipped).contains("SHA-256"));
    assert!(damaged(&intact[..intact.len() - 1]).contains("bytes"));
    std::fs::remove_file(&shard).unwrap();
    assert!(matches!(Dataset::open(&out), Err(DataError::Io { path, .. }) if path == shard));
    std::fs::write(&shard, &intact).unwrap();
    assert_eq!(Dataset::open(&out).unwrap().examples.len(), 3);
}

#[test]
fn a_manifest_that_does_not_fit_is_refused() {
    let (_packages, out) = dataset();
    let path = out.join(MANIFEST);
    let intact = std::fs::read_to_string(&path).unwrap();
    let open_with = |from: &str, to: &str| {
        assert!(intact.contains(from));
        std::fs::write(&path, intact.replacen(from, to, 1)).unwrap();
        Dataset::open(&out).unwrap_err()
    };
    assert!(matches!(open_with("\"format\": 1", "\"format\": 2"), DataError::Malformed { .. }));
    assert!(matches!(open_with("\"image_size\": 32", "\"image_size\": 64"), DataError::Damaged { .. }));
    assert!(matches!(open_with("\"records\": 2,", "\"records\": 1,"), DataError::Damaged { .. }));
    assert!(matches!(open_with("{", "["), DataError::Json { .. }));
    std::fs::remove_file(&path).unwrap();
    match Dataset::open(&out) {
        Err(error @ DataError::NotADataset(_)) => {
            assert!(error.to_string().contains("`dalle data build --images"));
        }
        other => panic!("expected a refusal that says what to do, got {other:?}"),
    }
}

#[test]
fn shards_are_plain_webdataset_tars() {
    let (_packages, out) = dataset();
    let mut files = BTreeMap::new();
    for shard in Dataset::open(&out).unwrap().manifest.shards {
        let mut tar = tar::Archive::new(std::fs::File::open(out.join(shard.name)).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(name, content);
        }
    }
    let endings: Vec<&str> = files.keys().map(|name| name.split_once('.').unwrap().1).collect();
    assert_eq!(endings, ["json", "png", "txt"].repeat(3));
    assert_eq!(files["fluent-flat_red-apple.txt"], b"red apple");
    let record: serde_json::Value = serde_json::from_slice(&files["fluent-flat_red-apple.json"]).unwrap();
    for (field, expected) in [
        ("label", "red apple"),
        ("hexcode", "1F34E"),
        ("group", "food-drink"),
        ("style", "flat"),
        ("license", "Apache-2.0"),
        ("source", "@iconify-json/fluent-emoji-flat@1.2.3: red-apple"),
        ("split", "train"),
    ] {
        assert_eq!(record[field], expected, "{field}");
    }
}

fn captions() -> Captions {
    Captions {
        label: "a {tag} cat".to_owned(),
        tags: ["pet", "soft", "{label}"].map(str::to_owned).to_vec(),
        templates: ["{label}", "{label}, {tag}, {tag}", "{tag} {tag} {tag} {tag}", "a {flat} {label}"]
            .map(str::to_owned)
            .to_vec(),
        alternatives: vec!["an {tag} animal".to_owned()],
        ..Captions::default()
    }
}

#[test]
fn captions_are_drawn_reproducibly_from_all_templates() {
    let captions = captions();
    let draw = |seed: u64| -> Vec<String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..1000).map(|_| captions.sample(&mut rng)).collect()
    };
    let drawn = draw(1);
    assert_eq!(drawn, draw(1));
    assert_ne!(drawn, draw(2));
    let main = drawn.iter().filter(|caption| **caption == captions.main()).count();
    assert!((440..560).contains(&main), "half of 1,000 should be the main caption, got {main}");
    let tags = ["pet", "soft", "{label}"];
    let pairs = tags.iter().flat_map(|a| tags.iter().filter(move |b| a != *b).map(move |b| (a, b)));
    let mut expected: HashSet<String> = pairs.map(|(a, b)| format!("a {{tag}} cat, {a}, {b}")).collect();
    expected.extend(["a {tag} cat", "a {flat} a {tag} cat", "an {tag} animal"].map(str::to_owned));
    assert_eq!(drawn.into_iter().collect::<HashSet<_>>(), expected);
}

#[test]
fn a_lone_label_is_the_only_caption() {
    let lone =
        Captions { label: "cat".to_owned(), templates: vec!["{label}".to_owned()], ..Captions::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    assert!((0..100).all(|_| lone.sample(&mut rng) == "cat"));
}

#[test]
fn a_sheet_shows_every_picture_and_writes_below_it() {
    let (red, blue) =
        (RgbImage::from_pixel(64, 64, Rgb([255, 0, 0])), RgbImage::from_pixel(64, 64, Rgb([0, 0, 255])));
    let cells = |caption: &'static str| {
        [
            Cell { images: vec![&red, &blue], caption },
            Cell { images: vec![&blue], caption: "" },
            Cell { images: vec![&red], caption: "" },
        ]
    };
    let sheet = contact_sheet(&cells("<cat> & dog"), 2);
    let blank = contact_sheet(&cells(""), 2);
    assert_eq!(sheet.dimensions(), blank.dimensions());
    let count = |sheet: &RgbImage, colour: [u8; 3]| sheet.pixels().filter(|pixel| pixel.0 == colour).count();
    assert_eq!(count(&sheet, [255, 0, 0]), 2 * 64 * 64);
    assert_eq!(count(&sheet, [0, 0, 255]), 2 * 64 * 64);
    let ink = sheet.enumerate_pixels().filter(|(x, y, pixel)| blank.get_pixel(*x, *y) != *pixel);
    let (mut inked, mut above) = (0, 0);
    for (_, y, _) in ink {
        inked += 1;
        above += usize::from(y < 64);
    }
    assert!(inked > 50, "a caption of eleven characters has ink, got {inked} pixels");
    assert_eq!(above, 0, "no ink on the pictures");
    assert!(contact_sheet(&[], 10).width() > 0);
}

#[test]
fn a_control_character_in_one_caption_costs_no_other_its_text() {
    let picture = RgbImage::from_pixel(64, 64, Rgb([0, 0, 255]));
    let cells = |caption: &'static str| {
        ["a red apple", caption].map(|caption| Cell { images: vec![&picture], caption })
    };
    let plain = contact_sheet(&cells("a yellow apple"), 2);
    for caption in ["a yellow\u{1} apple", "a yellow apple\0\0", "a \u{ffff}yellow\u{fffe} app\u{7f}le\u{9b}"]
    {
        assert!(contact_sheet(&cells(caption), 2) == plain, "{caption:?}");
    }
}

proptest! {
    #[test]
    fn any_name_becomes_a_key_that_tar_and_webdataset_accept(name in any::<String>()) {
        let key = sanitise_key(&name);
        prop_assert!(!key.is_empty() && key.len() <= 80);
        prop_assert!(key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')));
        prop_assert_eq!(&sanitise_key(&key), &key);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        tar.append_data(&mut header, format!("{key}_on_pale-yellow.json"), &[][..]).unwrap();
    }

    #[test]
    fn a_key_in_the_right_form_is_kept(key in "[a-z0-9_-]{1,80}") {
        prop_assert_eq!(sanitise_key(&key), key);
    }
}
