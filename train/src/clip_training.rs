//! Fitting the contrastive model to captions and their pictures (section 2.6; arXiv 2103.00020).

use anyhow::{Context, Result, ensure};
use dalle_model::Device;
use dalle_model::burn::tensor::Tensor;
use dalle_model::clip::Clip;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::pixels::images_to_tensor;
use dalle_model::dvae::{Decoder, Encoder};
use dalle_shared::{TextToken, Tokenizer};
use image::RgbImage;
use indicatif::ProgressIterator;
use rand::RngExt;

use dalle_data::Example;

use crate::augment;
use crate::bpe_dropout::BpeDropout;
use crate::epoch_order::EpochOrder;
use crate::metrics::Metrics;
use crate::progress::bar;
use crate::random::{Purpose, stream};
use crate::schedule::WarmupCosine;
use crate::stage::Stage;
use crate::tokens::{decode_picture, encode_pictures};

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub struct ClipSchedule {
    /// Pairs per update: each is told apart from the others.
    pub batch: usize,
    /// Step size.
    pub learning_rate: WarmupCosine,
    /// Probability that BPE drops a merge.
    pub bpe_dropout: f32,
    /// Probability that a picture is seen as the dVAE gives it back.
    pub reconstructed: f32,
    /// Seed of everything random.
    pub seed: u64,
}

/// The stage's data and schedule.
pub struct ClipStage {
    data: ClipData,
    image_size: usize,
    schedule: ClipSchedule,
    device: Device,
}

/// Captioned images, and the order in which they are used.
struct ClipData {
    examples: Vec<Example>,
    /// The examples' images as the dVAE reconstructs them; empty where they are not needed.
    reconstructions: Vec<RgbImage>,
    tokenizer: BpeDropout,
    text_length: usize,
    image_size: u32,
    schedule: ClipSchedule,
    order: EpochOrder,
}

/// The pairs of an update.
struct ClipBatch {
    captions: Vec<Vec<TextToken>>,
    images: Vec<RgbImage>,
}

impl ClipData {
    fn batch(&mut self, step: u64) -> Result<ClipBatch> {
        let (mut captions, mut images) = (Vec::new(), Vec::new());
        for turn in self.order.batch(step, self.schedule.batch) {
            let example = &self.examples[turn.index];
            let rng = &mut stream(self.schedule.seed, Purpose::Caption, turn.number);
            captions.push(self.tokenizer.encode(&example.captions.sample(rng), self.text_length - 1, rng)?);
            let rng = &mut stream(self.schedule.seed, Purpose::Augmentation, turn.number);
            let reconstructed = rng.random_bool(self.schedule.reconstructed.into());
            images.push(match self.reconstructions.get(turn.index) {
                Some(image) if reconstructed => image.clone(),
                _ => augment::for_prior(&example.image, self.image_size, rng),
            });
        }
        Ok(ClipBatch { captions, images })
    }
}

impl ClipStage {
    /// A stage over some examples, on an autodiff device. With a dVAE, their images are reconstructed by it once, up front.
    ///
    /// # Errors
    /// There are too few examples for a batch, the tokenizer cannot drop merges, or the device fails.
    pub fn new(
        examples: Vec<Example>,
        dvae: Option<(Encoder, Decoder)>,
        tokenizer: Tokenizer,
        config: &ModelConfig,
        schedule: ClipSchedule,
        device: Device,
    ) -> Result<Self> {
        check_batch(schedule.batch, examples.len())?;
        let reconstructions = match dvae {
            Some(dvae) => reconstruct(&examples, &dvae, config, schedule.seed)?,
            None => Vec::new(),
        };
        let data = ClipData {
            order: EpochOrder::new(schedule.seed, examples.len()),
            examples,
            reconstructions,
            tokenizer: BpeDropout::new(tokenizer, schedule.bpe_dropout)?,
            text_length: config.text_length,
            image_size: config.image_size as u32,
            schedule,
        };
        Ok(Self { data, image_size: config.image_size, schedule, device })
    }
}

/// Checks that there are pairs to tell apart, and enough of them.
///
/// # Errors
/// The batch is too small, or larger than the number of examples.
pub fn check_batch(batch: usize, examples: usize) -> Result<()> {
    ensure!(
        (2..=examples).contains(&batch),
        "--batch: expected 2 or more, so that there is something to tell apart, and no more than the {examples} pictures that the \
         dataset has to train on; got {batch}"
    );
    Ok(())
}

/// The examples' pictures, through the dVAE.
fn reconstruct(
    examples: &[Example],
    (encoder, decoder): &(Encoder, Decoder),
    config: &ModelConfig,
    seed: u64,
) -> Result<Vec<RgbImage>> {
    let (size, grid) = (config.image_size as u32, config.geometry().grid);
    let progress = bar(examples.len() as u64, "reconstructing pictures");
    let reconstructed = (0..).zip(examples).progress_with(progress).map(|(index, example)| {
        let rng = &mut stream(seed, Purpose::Tokenization, index);
        let tokens = encode_pictures(encoder, &[augment::for_prior(&example.image, size, rng)])?;
        decode_picture(decoder, tokens.first().context("one picture has one grid of tokens")?, grid)
    });
    reconstructed.collect()
}

impl Stage for ClipStage {
    type Network = Clip;

    fn loss(&mut self, clip: &Clip, step: u64) -> Result<(Tensor<1>, Metrics)> {
        let batch = self.data.batch(step)?;
        let captions: Vec<&[TextToken]> = batch.captions.iter().map(Vec::as_slice).collect();
        let bytes: Vec<&[u8]> = batch.images.iter().map(|image| image.as_raw().as_slice()).collect();
        let pictures = images_to_tensor(&bytes, self.image_size, self.image_size, &self.device);
        let outcome = clip.loss(&captions, pictures);
        Ok((
            outcome.loss.clone(),
            vec![("loss", outcome.loss), ("retrieval", outcome.retrieval), ("scale", clip.scale())],
        ))
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }

    fn after_update(&self, clip: Clip) -> Clip {
        clip.within_bounds()
    }
}
