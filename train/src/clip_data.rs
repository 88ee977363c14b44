//! The pairs of CLIP's training: captions and images, streamed from shards.

use anyhow::{Context, Result};
use dalle_data::random::{Purpose, stream};
use dalle_data::{ImageIndex, Item, Reader, Share, TrainingData};
use dalle_model::config::ModelConfig;
use dalle_shared::{TextToken, Tokenizer};
use image::RgbImage;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augment;
use crate::bpe_dropout::BpeDropout;
use crate::clip_schedule::ClipSchedule;
use crate::prefetch::Batches;

/// A caption with its image.
pub struct ClipPair {
    /// The caption.
    pub(crate) caption: ClipCaption,
    pub(crate) image: RgbImage,
}

/// What tells whether two pairs are true ones of each other.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ClipCaption {
    /// Dataset and key of the example.
    pub example: (usize, String),
    /// The caption as it is written, in lower case.
    pub text: String,
    /// The caption as ids.
    pub ids: Vec<TextToken>,
}

impl ClipCaption {
    /// Whether the caption of one belongs to the image of the other: they are one example, which two epochs brought into one
    /// batch, or their captions are of one wording.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.example == other.example || self.text == other.text || self.ids == other.ids
    }
}

/// The pairs of each update.
pub struct ClipData {
    reader: Reader,
    pairing: Pairing,
}

/// What makes a pair of an example.
struct Pairing {
    /// The images of each dataset as the dVAE reconstructs them; empty if they are not needed.
    reconstructions: Vec<ImageIndex>,
    tokenizer: BpeDropout,
    text_length: usize,
    image_size: u32,
    schedule: ClipSchedule,
}

impl ClipData {
    /// The pairs of `data` for a model of this configuration.
    ///
    /// # Errors
    /// The tokenizer cannot drop merges.
    pub fn new(
        data: &TrainingData,
        share: Share,
        reconstructions: Vec<ImageIndex>,
        tokenizer: Tokenizer,
        config: &ModelConfig,
        schedule: ClipSchedule,
    ) -> Result<Self> {
        let tokenizer = BpeDropout::new(tokenizer, schedule.bpe_dropout)?;
        let (text_length, image_size) = (config.text_length, config.image_size as u32);
        let pairing = Pairing { reconstructions, tokenizer, text_length, image_size, schedule };
        Ok(Self { reader: data.reader(share), pairing })
    }
}

impl Pairing {
    fn pair(&self, item: &Item) -> Result<ClipPair> {
        let rng = &mut stream(self.schedule.seed, Purpose::Caption, item.number);
        let text = item.entry.record()?.captions.sample(rng);
        let ids = self.tokenizer.encode(&text, self.text_length - 1, rng)?;
        let rng = &mut stream(self.schedule.seed, Purpose::Augmentation, item.number);
        let reconstructed = rng.random_bool(self.schedule.reconstructed.into());
        let image = match self.reconstructions.get(item.dataset) {
            Some(index) if reconstructed => index
                .image(item.entry.key())?
                .with_context(|| format!("`{}` has no reconstruction", item.entry.key()))?,
            _ => augment::for_prior(&item.entry.image()?, self.image_size, rng),
        };
        let example = (item.dataset, item.entry.key().to_owned());
        Ok(ClipPair { caption: ClipCaption { example, text: text.trim().to_lowercase(), ids }, image })
    }
}

impl Batches for ClipData {
    type Batch = Vec<ClipPair>;

    fn batch(&mut self, step: u64) -> Result<Vec<ClipPair>> {
        let items = self.reader.items(step)?;
        items.par_iter().map(|item| self.pairing.pair(item)).collect()
    }
}

/// Held-out pairs: main captions and centred images.
///
/// # Errors
/// A record or image cannot be read.
pub fn held_out(items: &[Item], tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Vec<ClipPair>> {
    let pairs = items.par_iter().map(|item| {
        let text = item.entry.record()?.captions.main();
        let ids = tokenizer.encode(&text, config.text_length - 1)?.ids;
        let image = augment::centred(&item.entry.image()?, config.image_size as u32);
        let example = (item.dataset, item.entry.key().to_owned());
        Ok(ClipPair { caption: ClipCaption { example, text: text.trim().to_lowercase(), ids }, image })
    });
    pairs.collect()
}
