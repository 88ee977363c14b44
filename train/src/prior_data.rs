//! The pairs of stage 2: captions and image tokens, streamed from token shards (appendix B.2).

use anyhow::Result;
use dalle_data::random::{Purpose, stream};
use dalle_data::{Item, Reader, Share, TrainingData};
use dalle_shared::{ImageToken, TextToken, Tokenizer};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::bpe_dropout::BpeDropout;
use crate::prefetch::Batches;
use crate::prior_schedule::PriorSchedule;

/// A caption with its image.
pub struct PriorPair {
    /// Ids, or nothing for a pair that is trained without its caption.
    pub(crate) caption: Option<Vec<TextToken>>,
    /// Image tokens, `[grid²]` in raster order, which are scored.
    pub(crate) image: Vec<ImageToken>,
    /// The tokens that the prior sees in their places, if they are not the same.
    pub(crate) noisy: Option<Vec<ImageToken>>,
}

impl PriorPair {
    /// A pair of caption ids, or none for a pair that is trained without its caption, and the image's tokens.
    pub fn new(caption: Option<Vec<TextToken>>, image: Vec<ImageToken>) -> Self {
        Self { caption, image, noisy: None }
    }

    /// The image tokens that the prior sees.
    pub(crate) fn seen(&self) -> &[ImageToken] {
        self.noisy.as_ref().unwrap_or(&self.image)
    }
}

/// The pairs of each update: captions sampled and tokenized with dropout each time, and in each epoch another crop of each image.
pub struct PriorData {
    reader: Reader,
    tokenizer: BpeDropout,
    text_length: usize,
    schedule: PriorSchedule,
}

impl PriorData {
    /// The pairs of `data`, which holds tokens, for captions of at most `text_length − 1` ids.
    ///
    /// # Errors
    /// The tokenizer cannot drop merges.
    pub fn new(
        data: &TrainingData,
        share: Share,
        tokenizer: &Tokenizer,
        text_length: usize,
        schedule: PriorSchedule,
    ) -> Result<Self> {
        let tokenizer = BpeDropout::new(tokenizer.clone(), schedule.bpe_dropout)?;
        Ok(Self { reader: data.reader(share), tokenizer, text_length, schedule })
    }
}

impl Batches for PriorData {
    type Batch = Vec<PriorPair>;

    fn batch(&mut self, step: u64) -> Result<Vec<PriorPair>> {
        let pairs = self.reader.items(step)?.into_par_iter().map(|item| {
            let mut rng = stream(self.schedule.seed, Purpose::Caption, item.number);
            let caption = item.entry.record()?.captions.sample(&mut rng);
            let ids = self.tokenizer.encode(&caption, self.text_length - 1, &mut rng)?;
            let caption = (rng.random::<f32>() >= self.schedule.caption_dropout).then_some(ids);
            let image = item.entry.tokens(item.epoch)?;
            let noisy = (self.schedule.image_noise > 0.0)
                .then(|| with_noise(&image, self.schedule.image_noise, &mut rng));
            Ok(PriorPair { caption, image, noisy })
        });
        pairs.collect()
    }
}

/// The tokens of an image, a share of them replaced by tokens of other places of the image. The share is uniform between 0 and
/// `most`.
fn with_noise(image: &[ImageToken], most: f32, rng: &mut impl Rng) -> Vec<ImageToken> {
    let share = rng.random::<f32>() * most;
    let token = |&own: &ImageToken| match rng.random::<f32>() < share {
        true => image[rng.random_range(0..image.len())],
        false => own,
    };
    image.iter().map(token).collect()
}

/// Held-out pairs: main captions in their usual spelling, and the crop in the middle.
///
/// # Errors
/// A record or its tokens cannot be read.
pub fn held_out(items: &[Item], tokenizer: &Tokenizer, text_length: usize) -> Result<Vec<PriorPair>> {
    let pairs = items.iter().map(|item| {
        let caption = item.entry.record()?.captions.main();
        let ids = tokenizer.encode(&caption, text_length - 1)?.ids;
        Ok(PriorPair::new(Some(ids), item.entry.tokens(0)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dalle_data::Split;
    use dalle_model::Device;
    use dalle_model::config::ModelConfig;
    use dalle_model::dvae::{Encoder, ImageEncoder};
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::schedule::WarmupCosine;
    use crate::test_dataset::TestDataset;
    use crate::token_dataset;

    /// The tokenizer of the shipped model.
    const TOKENIZER: &[u8] = include_bytes!("../../assets/models/drawings-128/tokenizer.json");

    #[test]
    fn each_epoch_reads_another_crop_of_each_image() {
        let _random = crate::DEVICE_RANDOM.lock();
        let config: ModelConfig = serde_json::from_str(include_str!("../../configs/tiny.json")).unwrap();
        let tokenizer = Tokenizer::from_json(TOKENIZER).unwrap();
        let device = Device::flex();
        device.seed(5);
        let encoder = ImageEncoder::new(Encoder::new(&config.dvae, &device));
        let captions = ["a cat", "two dogs", "a boat", "sushi"];
        let dataset = TestDataset::new(captions.iter().zip(1..).map(|(caption, number)| {
            let image = |x, y| Rgb([x * 5, y * 5, x * y * number % 256].map(|value: u32| value as u8));
            ((*caption).to_owned(), RgbImage::from_fn(48, 48, image))
        }));
        let run = tempfile::tempdir().unwrap();
        let format = token_dataset::format(dataset.shards(), &config, String::new(), 2, 0);
        let load = || Ok(encoder);
        let tokens =
            token_dataset::in_run_folder(run.path(), dataset.shards(), &format, &config, load, || ())
                .unwrap();
        // By caption: the two crops, which differ for at least one image.
        let ids = |caption: &str| tokenizer.encode(caption, 47).unwrap().ids;
        let crops: BTreeMap<Vec<TextToken>, [Vec<ImageToken>; 2]> = tokens
            .entries(None)
            .map(|entry| {
                let entry = entry.unwrap();
                let crops = [0, 1].map(|crop| entry.tokens(crop).unwrap());
                (ids(&entry.record().unwrap().captions.main()), crops)
            })
            .collect();
        assert_eq!(crops.len(), 4);
        assert!(crops.values().any(|[first, second]| first != second));

        let schedule = PriorSchedule {
            batch: 4,
            accumulate: 1,
            learning_rate: WarmupCosine { peak: 1.0, warmup: 0, updates: 1 },
            bpe_dropout: 0.0,
            caption_dropout: 0.0,
            image_noise: 0.0,
            seed: 0,
        };
        let data = TrainingData::new(vec![(tokens, None)], Split::Train, 0, 1 << 20).unwrap();
        let mut pairs = PriorData::new(&data, Share::whole(4), &tokenizer, 48, schedule).unwrap();
        for epoch in 0..4 {
            for pair in pairs.batch(epoch).unwrap() {
                assert_eq!(pair.image, crops[&pair.caption.unwrap()][epoch as usize % 2], "epoch {epoch}");
            }
        }
    }
}
