//! Streaming a dataset for training: order, resuming, workers, mixing and damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;

use dalle_data::{
    Captions, DataError, Dataset, Entry, FORMAT, ImageIndex, Item, MANIFEST, Manifest, Options, Reader,
    Record, ShardWriter, Shards, Share, Split, TokenFormat, TrainingData,
};
use dalle_shared::ImageToken;
use image::{ImageFormat, Rgb, RgbImage};

const SIDE: u32 = 8;

/// Every fifth example is held out.
fn split(number: usize) -> Split {
    if number % 5 == 4 { Split::Val } else { Split::Train }
}

fn image(number: usize) -> RgbImage {
    RgbImage::from_pixel(SIDE, SIDE, Rgb([number as u8, 3, 7]))
}

fn record(name: &str, number: usize) -> Record {
    let label = format!("{name} {number}");
    Record {
        concept: label.clone(),
        captions: Captions { label, templates: vec!["{label}".to_owned()], ..Captions::default() },
        split: split(number),
        held_out: None,
        license: "CC0-1.0".to_owned(),
        source: String::new(),
        extra: BTreeMap::new(),
    }
}

/// Writes a dataset of `count` examples in shards of `shard_size`.
fn write(folder: &Path, count: usize, shard_size: usize, tokens: Option<TokenFormat>) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let mut shards = ShardWriter::new(folder, shard_size);
    for number in 0..count {
        let json = serde_json::to_vec(&record(name, number)).unwrap();
        let mut png = Vec::new();
        image(number).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        let crops =
            [[number, 1, 2, 3], [number, 4, 5, 6]].map(|crop| crop.map(|token| ImageToken(token as u16)));
        let tokens_file = TokenFormat::encode(crops.iter().map(<[ImageToken; 4]>::as_slice));
        let content =
            if tokens.is_some() { ("tokens", tokens_file.as_slice()) } else { ("png", png.as_slice()) };
        shards.append(&format!("{name}-{number}"), split(number), &[("json", &json), content]).unwrap();
    }
    let train = (0..count).filter(|&number| split(number) == Split::Train).count();
    let manifest = Manifest {
        format: FORMAT,
        image_size: SIDE,
        records: count,
        train,
        val: count - train,
        splits: BTreeMap::new(),
        recipe: None,
        options: Options { size: SIDE, shard_size, backgrounds: 0, val_share: 0.0, seed: 0 },
        sources: Vec::new(),
        tokens,
        shards: shards.finish().unwrap(),
        problems: Vec::new(),
    };
    std::fs::write(folder.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

fn open(folders: &[(&Path, Option<f64>)], split: Split, seed: u64, buffer: u64) -> TrainingData {
    let datasets = folders.iter().map(|(folder, weight)| (Shards::open(folder).unwrap(), *weight)).collect();
    TrainingData::new(datasets, split, seed, buffer).unwrap()
}

/// What a prepared example is compared by: its key, its first pixel, its epoch and the index of its random numbers.
type Seen = (String, u8, u64, u64);

fn seen(item: &Item) -> Seen {
    let pixel = item.entry.image().unwrap().get_pixel(0, 0).0[0];
    (item.entry.key().to_owned(), pixel, item.epoch, item.number)
}

fn batch(reader: &mut Reader, step: u64) -> Vec<Seen> {
    reader.items(step).unwrap().iter().map(seen).collect()
}

fn batches(data: &TrainingData, share: Share, steps: std::ops::Range<u64>) -> Vec<Vec<Seen>> {
    let mut reader = data.reader(share);
    steps.map(|step| batch(&mut reader, step)).collect()
}

#[test]
fn every_epoch_reads_each_training_example_once_however_little_fits_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 60, 7, None);
    let bytes: u64 = Shards::open(&path).unwrap().manifest().shards.iter().map(|shard| shard.bytes).sum();
    for buffer in [0, bytes / 2, bytes] {
        let data = open(&[(&path, None)], Split::Train, 1, buffer);
        assert_eq!(data.examples(), 48);
        let keys: Vec<Seen> = batches(&data, Share::whole(6), 0..24).concat();
        let mut orders = BTreeSet::new();
        for (epoch, read) in keys.chunks(48).enumerate() {
            assert!(read.iter().all(|(_, _, of, _)| *of == epoch as u64));
            let numbers: Vec<u8> = read.iter().map(|(_, pixel, ..)| *pixel).collect();
            let expected: BTreeSet<u8> =
                (0..60).filter(|&number| split(number) == Split::Train).map(|number| number as u8).collect();
            assert_eq!(numbers.iter().copied().collect::<BTreeSet<u8>>(), expected, "epoch {epoch}");
            orders.insert(numbers);
        }
        assert_eq!(orders.len(), 3, "each epoch has an order of its own");
        assert!(keys.iter().map(|(.., number)| *number).eq(0..keys.len() as u64));
    }
}

#[test]
fn a_batch_is_the_same_wherever_reading_starts() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    write(&paths[0], 50, 6, None);
    write(&paths[1], 33, 9, None);
    for buffer in [0, 1 << 30] {
        let data = open(&[(&paths[0], Some(2.0)), (&paths[1], Some(1.0))], Split::Train, 1, buffer);
        let all = batches(&data, Share::whole(7), 0..40);
        for first in [0, 1, 13, 39] {
            let again = batches(&data, Share::whole(7), first..first + 1);
            assert_eq!(again[0], all[first as usize], "update {first}, buffer {buffer}");
        }
        // Jumping back and asking twice is the same.
        let mut reader = data.reader(Share::whole(7));
        for step in [5, 6, 6, 2, 3, 30] {
            assert_eq!(batch(&mut reader, step), all[step as usize]);
        }
    }
}

#[test]
fn workers_share_a_batch_without_gap_or_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 60, 7, None);
    let data = open(&[(&path, None)], Split::Train, 1, 0);
    let alone = batches(&data, Share::whole(10), 0..12);
    for world in [2, 3, 10] {
        let parts: Vec<Vec<Vec<Seen>>> =
            (0..world).map(|rank| batches(&data, Share { batch: 10, rank, world }, 0..12)).collect();
        for (step, whole) in alone.iter().enumerate() {
            let together: Vec<Seen> = parts.iter().flat_map(|part| part[step].clone()).collect();
            assert_eq!(together, *whole, "update {step} of {world} workers");
        }
    }
}

#[test]
fn datasets_are_mixed_by_weight_and_without_weights_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["large", "small"].map(|name| folder.path().join(name));
    write(&paths[0], 100, 10, None);
    write(&paths[1], 25, 10, None);
    let count = |weights: [Option<f64>; 2]| {
        let data = open(&[(&paths[0], weights[0]), (&paths[1], weights[1])], Split::Train, 1, 1 << 30);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (key, ..) in batches(&data, Share::whole(100), 0..100).concat() {
            *counts.entry(key.split('-').next().unwrap().to_owned()).or_default() += 1;
        }
        (counts["large"], counts["small"])
    };
    let (large, small) = count([None, None]);
    assert!(large.abs_diff(8000) < 200 && small.abs_diff(2000) < 200, "{large} and {small}");
    let (large, small) = count([Some(0.5), Some(1.5)]);
    assert!(large.abs_diff(2500) < 200 && small.abs_diff(7500) < 200, "{large} and {small}");
}

#[test]
fn the_held_out_split_is_read_alone_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 50, 7, None);
    let data = open(&[(&path, None)], Split::Val, 1, 0);
    let read: BTreeSet<u8> =
        batches(&data, Share::whole(10), 0..1)[0].iter().map(|(_, pixel, ..)| *pixel).collect();
    assert_eq!(read, (0..50).filter(|number| number % 5 == 4).collect());
    write(&folder.path().join("four"), 4, 7, None);
    let none = Shards::open(&folder.path().join("four")).unwrap();
    let error = TrainingData::new(vec![(none, None)], Split::Val, 1, 0).unwrap_err();
    assert!(matches!(error, DataError::EmptySplit { split: Split::Val, .. }), "{error}");
}

#[test]
fn a_dataset_that_does_not_list_its_splits_by_shard_is_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 60, 7, None);
    let new = batches(&open(&[(&path, None)], Split::Train, 1, 0), Share::whole(6), 0..10);
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    for shard in manifest["shards"].as_array_mut().unwrap() {
        shard.as_object_mut().unwrap().remove("train").unwrap();
    }
    std::fs::write(path.join(MANIFEST), manifest.to_string()).unwrap();
    assert_eq!(batches(&open(&[(&path, None)], Split::Train, 1, 0), Share::whole(6), 0..10), new);
}

#[test]
fn a_damaged_shard_is_named_by_the_first_batch_that_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 60, 10, None);
    let shard = path.join("shard-000003.tar");
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let mut reader = open(&[(&path, None)], Split::Train, 1, 0).reader(Share::whole(4));
    let failed = (0..12).find(|&step| reader.items(step).is_err()).expect("damage in the first epoch");
    // Asked again, the same.
    let error = reader.items(failed).unwrap_err();
    assert!(matches!(&error, DataError::Damaged { path, .. } if *path == shard), "{error}");
}

#[test]
fn two_windows_are_in_memory_however_many_shards_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 100, 5, None);
    let mut reader = open(&[(&path, None)], Split::Train, 1, 0).reader(Share::whole(1));
    reader.items(0).unwrap();
    // Time to read more, if anything did.
    std::thread::sleep(std::time::Duration::from_millis(200));
    for shard in 0..20 {
        std::fs::remove_file(path.join(format!("shard-{shard:06}.tar"))).unwrap();
    }
    // Four of a shard's five are trained on.
    let read = (1..80).take_while(|&step| reader.items(step).is_ok()).count() + 1;
    assert!(read <= 2 * 4, "{read} examples were in memory");
}

#[test]
fn a_run_is_identified_by_what_decides_its_examples_and_by_the_hash_alone_as_in_older_versions() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    write(&paths[0], 50, 10, None);
    write(&paths[1], 25, 10, None);
    let hash = Shards::open(&paths[0]).unwrap().hash();
    let one = |buffer| open(&[(&paths[0], None)], Split::Train, 1, buffer).identity();
    assert_eq!(one(1 << 30), serde_json::json!(hash));
    assert_eq!(one(1 << 30), one(1 << 29), "whatever fits is shuffled alike");
    let two = |weight, buffer| {
        open(&[(&paths[0], weight), (&paths[1], weight)], Split::Train, 1, buffer).identity()
    };
    let all = [one(1 << 30), one(0), one(9000), two(None, 1 << 30), two(Some(2.0), 1 << 30), two(None, 0)];
    let different: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(different.len(), all.len(), "{different:?}");
}

#[test]
fn examples_are_read_at_random_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    write(&path, 30, 7, None);
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!(dataset.hash(), Shards::open(&path).unwrap().hash());
    for number in [29, 0, 13] {
        let example = &dataset.examples[number];
        assert_eq!(example.key, format!("data-{number}"));
        assert_eq!(example.captions.main(), format!("data {number}"));
        assert_eq!(example.split, split(number));
        assert_eq!(example.image().unwrap(), image(number));
        assert_eq!(dataset.get(&example.key).unwrap().captions, example.captions);
    }
    assert!(dataset.get("data-30").is_none());
    let index = ImageIndex::open(&Shards::open(&path).unwrap()).unwrap();
    assert_eq!(index.image("data-17").unwrap(), Some(image(17)));
    assert_eq!(index.image("data-30").unwrap(), None);
    std::fs::remove_file(path.join("shard-000001.tar")).unwrap();
    assert!(matches!(dataset.examples[7].image(), Err(DataError::Io { .. })));
}

#[test]
fn tokens_are_read_crop_by_crop_and_never_taken_for_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let format =
        TokenFormat { encoder: "e".repeat(64), vocab: 30, grid: 2, crops: 2, seed: 0, data: "d".repeat(64) };
    write(&path, 20, 7, Some(format.clone()));
    let shards = Shards::open(&path).unwrap();
    assert_eq!(shards.manifest().tokens, Some(format));
    let entries: Vec<Entry> = shards.entries(None).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 20);
    let tokens = |crop| entries[9].tokens(crop).unwrap().iter().map(|token| token.0).collect::<Vec<_>>();
    assert_eq!([tokens(0), tokens(1), tokens(2)], [[9, 1, 2, 3], [9, 4, 5, 6], [9, 1, 2, 3]]);
    assert!(matches!(entries[9].image(), Err(DataError::TokensNotImages(_))));
    assert!(matches!(Dataset::open(&path), Err(DataError::TokensNotImages(_))));

    let images = folder.path().join("images");
    write(&images, 1, 7, None);
    let entry = Shards::open(&images).unwrap().entries(None).next().unwrap().unwrap();
    assert!(matches!(entry.tokens(0), Err(DataError::ImagesNotTokens(_))));
}

#[test]
fn tokens_outside_the_codebook_or_of_another_length_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    for (vocab, grid) in [(9, 2), (30, 3), (30, usize::MAX)] {
        let path = folder.path().join(format!("tokens-{vocab}-{grid}"));
        write(
            &path,
            20,
            7,
            Some(TokenFormat { encoder: String::new(), vocab, grid, crops: 2, seed: 0, data: String::new() }),
        );
        let entries: Vec<Entry> = Shards::open(&path).unwrap().entries(None).map(Result::unwrap).collect();
        assert!(matches!(entries[9].tokens(0), Err(DataError::Damaged { .. })), "{vocab} {grid}");
    }
}

/// Changes the share of concepts that a dataset's manifest says is held out.
fn set_val_share(folder: &Path, share: f64, val: usize) {
    let path = folder.join(MANIFEST);
    let mut manifest: Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (manifest.options.val_share, manifest.val) = (share, val);
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn datasets_with_different_validation_shares_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["few", "many"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| write(path, 10, 5, None));
    let mixed = || {
        let datasets = paths.iter().map(|path| (Shards::open(path).unwrap(), None)).collect();
        TrainingData::new(datasets, Split::Train, 0, 1 << 20)
    };
    set_val_share(&paths[0], 0.1, 2);
    set_val_share(&paths[1], 0.1, 2);
    mixed().unwrap();
    // A concept between the shares would be trained on in one dataset and held out in the other, also if the other holds out none.
    for (share, val) in [(0.2, 2), (0.0, 0)] {
        set_val_share(&paths[1], share, val);
        let complaint = mixed().unwrap_err().to_string();
        assert!(complaint.contains("0.1") && complaint.contains(&share.to_string()), "{complaint}");
        assert!(complaint.contains("with the same --val"), "{complaint}");
    }
    // Without held-out examples nothing can leak.
    set_val_share(&paths[0], 0.1, 0);
    mixed().unwrap();
}

#[test]
fn either_all_datasets_have_a_weight_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["first", "second"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| write(path, 10, 5, None));
    let open = |weights: [Option<f64>; 2]| {
        let datasets = paths.iter().zip(weights).map(|(path, weight)| (Shards::open(path).unwrap(), weight));
        TrainingData::new(datasets.collect(), Split::Train, 0, 1 << 20)
    };
    assert!(open([None, None]).is_ok() && open([Some(1.0), Some(2.0)]).is_ok());
    for mixed in [[Some(3.0), None], [None, Some(3.0)]] {
        let complaint = open(mixed).unwrap_err().to_string();
        assert!(complaint.contains("a weight for all datasets or for none"), "{complaint}");
    }
}
