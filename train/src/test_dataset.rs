//! A dataset on disk for tests.

use std::collections::BTreeMap;

use dalle_data::{
    Captions, FORMAT, Item, MANIFEST, Manifest, Options, Record, ShardWriter, Shards, Share, Split,
    TrainingData, encode_png,
};
use image::RgbImage;
use tempfile::TempDir;

/// A dataset that is removed with this value.
pub struct TestDataset {
    _folder: TempDir,
    pub data: TrainingData,
}

impl TestDataset {
    /// Writes captioned images of one size, all of them to train on.
    pub fn new(examples: impl IntoIterator<Item = (String, RgbImage)>) -> Self {
        Self::with_split(examples, |_| Split::Train)
    }

    /// Writes captioned images of one size, each in the split that its number has.
    pub fn with_split(
        examples: impl IntoIterator<Item = (String, RgbImage)>,
        split_of: impl Fn(usize) -> Split,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::new(folder.path(), 4);
        let (mut size, mut records, mut train) = (0, 0, 0);
        for (label, image) in examples {
            let split = split_of(records);
            let record = Record {
                concept: label.clone(),
                captions: Captions { label, templates: vec!["{label}".to_owned()], ..Captions::default() },
                split,
                held_out: None,
                license: String::new(),
                source: String::new(),
                extra: BTreeMap::new(),
            };
            let (png, json) = (encode_png(&image).unwrap(), serde_json::to_vec(&record).unwrap());
            writer.append(&records.to_string(), split, &[("png", &png), ("json", &json)]).unwrap();
            (size, records) = (image.width(), records + 1);
            train += usize::from(split == Split::Train);
        }
        let manifest = Manifest {
            format: FORMAT,
            image_size: size,
            records,
            train,
            val: records - train,
            splits: BTreeMap::new(),
            recipe: None,
            options: Options { size, shard_size: 4, backgrounds: 0, val_share: 0.0, seed: 0 },
            sources: Vec::new(),
            tokens: None,
            shards: writer.finish().unwrap(),
            problems: Vec::new(),
        };
        std::fs::write(folder.path().join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let shards = Shards::open(folder.path()).unwrap();
        let data = TrainingData::new(vec![(shards, None)], Split::Train, 3, 1 << 20).unwrap();
        Self { _folder: folder, data }
    }

    /// The dataset.
    pub fn shards(&self) -> &Shards {
        self.data.datasets().next().unwrap().0
    }

    /// All examples to train on.
    pub fn items(&self) -> Vec<Item> {
        self.data.reader(Share::whole(self.data.examples())).items(0).unwrap()
    }
}
