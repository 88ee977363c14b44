//! Stage 2: training the prior on captions and the tokens of their images (section 2.2, appendix B.2).

use anyhow::{Result, ensure};
use dalle_kernels::prior::Losses;
use dalle_model::Device;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Encoder;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_shared::{ImageToken, TextToken, Tokenizer};
use image::RgbImage;
use indicatif::ProgressIterator;
use rand::RngExt;
use rayon::prelude::*;

use dalle_data::{Captions, Example};

use crate::augment;
use crate::bpe_dropout::BpeDropout;
use crate::epoch_order::EpochOrder;
use crate::gradients::Gradients;
use crate::metrics::{Metrics, add_share, scalars};
use crate::prefetch::{Batches, Prefetch};
use crate::prior_kernels::PriorKernels;
use crate::progress::bar;
use crate::random::{Purpose, stream};
use crate::schedule::WarmupCosine;
use crate::stage::{Stage, Validation};
use crate::tokens::encode_pictures;

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorSchedule {
    /// Pairs per update.
    pub batch: usize,
    /// Parts in which an update's batch is computed, one after the other.
    pub accumulate: usize,
    /// Learning rate.
    pub learning_rate: WarmupCosine,
    /// Probability that BPE drops a merge (0.1 in the paper).
    pub bpe_dropout: f32,
    /// Share of pairs trained without their caption, for classifier-free guidance.
    pub caption_dropout: f32,
    /// Seed of everything random.
    pub seed: u64,
}

impl PriorSchedule {
    /// Updates of the paper's run (appendix B.2).
    pub const PAPER_STEPS: u64 = 430_000;
    /// The paper's schedule (appendix B.2); but a cosine takes the place of its halvings at plateaus.
    pub const PAPER: Self = Self {
        batch: 1024,
        accumulate: 1,
        learning_rate: WarmupCosine { peak: 4.5e-4, warmup: 5_000, updates: Self::PAPER_STEPS },
        bpe_dropout: 0.1,
        caption_dropout: 0.0,
        seed: 0,
    };
}

/// The stage's data and schedule.
pub struct PriorStage {
    data: Prefetch<PriorData>,
    held_out: Vec<Pair>,
    masks: Masks,
    /// The same without autodiff.
    plain_masks: Masks,
    /// Text tokens that the prior predicts.
    text_places: usize,
    schedule: PriorSchedule,
    /// What computes instead of Burn, on the processor.
    kernels: Option<PriorKernels>,
}

/// Captions and tokens of images, and the order in which they are used.
struct PriorData {
    pairs: Vec<(Captions, Vec<ImageToken>)>,
    tokenizer: BpeDropout,
    text_length: usize,
    schedule: PriorSchedule,
    order: EpochOrder,
}

/// A caption with its image.
struct Pair {
    /// Ids, or nothing for a pair that is trained without its caption.
    caption: Option<Vec<TextToken>>,
    image: Vec<ImageToken>,
}

impl Pair {
    fn parts(&self) -> (Option<&[TextToken]>, &[ImageToken]) {
        (self.caption.as_deref(), &self.image)
    }
}

impl Batches for PriorData {
    type Batch = Vec<Pair>;

    fn batch(&mut self, step: u64) -> Result<Vec<Pair>> {
        let turns = self.order.batch(step, self.schedule.batch);
        let pairs = turns.par_iter().map(|turn| {
            let (caption, image) = &self.pairs[turn.index];
            let mut rng = stream(self.schedule.seed, Purpose::Caption, turn.number);
            let caption = caption.sample(&mut rng);
            let ids = self.tokenizer.encode(&caption, self.text_length - 1, &mut rng)?;
            let caption = (rng.random::<f32>() >= self.schedule.caption_dropout).then_some(ids);
            Ok(Pair { caption, image: image.clone() })
        });
        pairs.collect()
    }
}

/// Text tokens that the loss of some pairs is a mean over: each caption, and its end where there is room for it.
fn scored(pairs: &[Pair], places: usize) -> usize {
    pairs.iter().flat_map(|pair| &pair.caption).map(|ids| (ids.len() + 1).min(places)).sum()
}

impl PriorStage {
    /// A stage that trains on some examples and validates on others, all of whose images are tokenized once, up front; `device`
    /// is the autodiff device to train on.
    ///
    /// # Errors
    /// There are no examples to train on, or the device fails.
    pub fn new(
        [examples, held_out]: [&[Example]; 2],
        encoder: &Encoder,
        tokenizer: &Tokenizer,
        config: &ModelConfig,
        schedule: PriorSchedule,
        device: &Device,
    ) -> Result<Self> {
        ensure!(!examples.is_empty(), "the dataset holds no image to train on");
        let size = config.image_size as u32;
        let tokens = tokenize(examples, encoder, |index, example| {
            let rng = &mut stream(schedule.seed, Purpose::Tokenization, index);
            augment::for_prior(&example.image, size, rng)
        })?;
        let captions = examples.iter().map(|example| example.captions.clone());
        let pairs: Vec<_> = captions.zip(tokens).collect();
        let data = PriorData {
            order: EpochOrder::new(schedule.seed, pairs.len()),
            pairs,
            tokenizer: BpeDropout::new(tokenizer.clone(), schedule.bpe_dropout)?,
            text_length: config.text_length,
            schedule,
        };
        let tokens = tokenize(held_out, encoder, |_, example| augment::centred(&example.image, size))?;
        let held_out = held_out.iter().zip(tokens).map(|(example, image)| {
            let ids = tokenizer.encode(&example.captions.main(), config.text_length - 1)?.ids;
            Ok(Pair { caption: Some(ids), image })
        });
        let on_processor = device.clone().without_autodiff() == Device::flex();
        Ok(Self {
            kernels: on_processor.then(|| PriorKernels::new(config)).flatten(),
            data: Prefetch::new(data),
            held_out: held_out.collect::<Result<_>>()?,
            masks: Masks::new(config, device),
            plain_masks: Masks::new(config, &device.clone().without_autodiff()),
            text_places: config.text_length - 1,
            schedule,
        })
    }
}

/// The tokens of the examples' images, which `prepare` brings to the model's size.
fn tokenize(
    examples: &[Example],
    encoder: &Encoder,
    prepare: impl Fn(u64, &Example) -> RgbImage,
) -> Result<Vec<Vec<ImageToken>>> {
    let mut tokens = Vec::with_capacity(examples.len());
    let numbered: Vec<(u64, &Example)> = (0..).zip(examples).collect();
    let bar = bar(examples.len() as u64, "tokenizing images");
    for chunk in numbered.chunks(16).progress_with(bar) {
        let images: Vec<RgbImage> = chunk.iter().map(|&(index, example)| prepare(index, example)).collect();
        tokens.extend(encode_pictures(encoder, &images)?);
    }
    Ok(tokens)
}

impl PriorStage {
    fn loss(&self, prior: &Prior, masks: &Masks, pairs: &[Pair]) -> Result<PriorLoss> {
        let captions: Vec<Option<&[TextToken]>> = pairs.iter().map(|pair| pair.caption.as_deref()).collect();
        let images: Vec<&[ImageToken]> = pairs.iter().map(|pair| pair.image.as_slice()).collect();
        let inputs: Vec<&[TextToken]> = captions.iter().map(|caption| caption.unwrap_or_default()).collect();
        Ok(PriorLoss::new(prior.forward(masks, &inputs, &images)?, &captions, &images))
    }
}

impl PriorStage {
    /// Pairs that are computed at once.
    fn part(&self) -> usize {
        self.schedule.batch.div_ceil(self.schedule.accumulate)
    }

    /// What a part contributes to the loss of all pairs: each kind of token counts alike in all parts, however many a part has.
    fn share_of_loss(&self, prior: &Prior, masks: &Masks, part: &[Pair], all: &[Pair]) -> Result<PriorLoss> {
        let scored = |pairs| scored(pairs, self.text_places) as f64;
        let text_share = scored(part) / scored(all).max(1.0);
        let PriorLoss { text, image } = self.loss(prior, masks, part)?;
        Ok(PriorLoss {
            text: text.mul_scalar(text_share),
            image: image.mul_scalar(part.len() as f64 / all.len() as f64),
        })
    }
}

fn losses_of(losses: Losses) -> Metrics {
    scalars(&[("loss", losses.total()), ("text loss", losses.text), ("image loss", losses.image)])
}

fn named(loss: PriorLoss) -> Metrics {
    vec![("loss", loss.total()), ("text loss", loss.text), ("image loss", loss.image)]
}

impl Stage for PriorStage {
    type Network = Prior;

    fn gradients(&mut self, prior: &Prior, step: u64) -> Result<(Gradients, Metrics)> {
        let batch = self.data.batch(step)?;
        if let Some(kernels) = &mut self.kernels {
            // Whole: the kernels need memory for a pair of each thread, not for the batch.
            let (losses, gradients) = kernels.gradients(prior, batch.iter().map(Pair::parts));
            return Ok((gradients, losses_of(losses)));
        }
        let (mut gradients, mut metrics) = (Gradients::default(), Metrics::new());
        for part in batch.chunks(self.part()) {
            let loss = self.share_of_loss(prior, &self.masks, part, &batch)?;
            gradients.add(Gradients::of(&loss.total(), prior));
            add_share(&mut metrics, named(loss), 1.0);
        }
        Ok((gradients, metrics))
    }

    fn validate(&mut self, prior: &Prior) -> Result<Validation> {
        if let Some(kernels) = &mut self.kernels
            && !self.held_out.is_empty()
        {
            return Validation::read(losses_of(
                kernels.evaluate(prior, self.held_out.iter().map(Pair::parts)),
            ));
        }
        let mut metrics = Metrics::new();
        for part in self.held_out.chunks(self.part()) {
            let loss = self.share_of_loss(prior, &self.plain_masks, part, &self.held_out)?;
            add_share(&mut metrics, named(loss), 1.0);
        }
        Validation::read(metrics)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }
}

#[cfg(test)]
mod tests {
    use dalle_data::Split;
    use dalle_model::burn::module::Module;

    use super::*;

    /// The tokenizer of the shipped model.
    const TOKENIZER: &[u8] = include_bytes!("../../assets/models/emoji-128/tokenizer.json");

    fn examples() -> Vec<Example> {
        let captions =
            ["a cat", "two dogs in a park", "x", "a red apple left of a green pear", "sushi", "a boat"];
        let examples = captions.iter().enumerate().map(|(index, caption)| Example {
            key: index.to_string(),
            captions: Captions {
                label: (*caption).to_owned(),
                templates: vec!["{label}".to_owned()],
                ..Captions::default()
            },
            concept: (*caption).to_owned(),
            image: RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 40 * index as u8])),
            split: Split::Train,
        });
        examples.collect()
    }

    #[test]
    fn gradients_and_losses_are_the_same_in_any_number_of_parts_and_by_the_kernels() {
        let _random = crate::DEVICE_RANDOM.lock();
        let mut config: ModelConfig = serde_json::from_str(include_str!("../../configs/tiny.json")).unwrap();
        config.text_vocab = 1024;
        let (plain, device) = (Device::flex(), Device::flex().autodiff());
        let tokenizer = Tokenizer::from_json(TOKENIZER).unwrap();
        device.seed(5);
        let (encoder, prior) = (Encoder::new(&config.dvae, &plain), Prior::new(&config, &device));
        let examples = examples();
        let of = |accumulate, kernels: bool| {
            let learning_rate = WarmupCosine { peak: 1.0, warmup: 0, updates: 1 };
            // Captions of different lengths, and none: parts have other shares of the text than of the images.
            let schedule = PriorSchedule {
                batch: 6,
                accumulate,
                learning_rate,
                bpe_dropout: 0.1,
                caption_dropout: 0.4,
                seed: 3,
            };
            let both = [examples.as_slice(), examples.as_slice()];
            let mut stage = PriorStage::new(both, &encoder, &tokenizer, &config, schedule, &device).unwrap();
            assert!(stage.kernels.is_some(), "the processor has kernels");
            if !kernels {
                stage.kernels = None;
            }
            let (gradients, metrics) = stage.gradients(&prior, 0).unwrap();
            let metrics = metrics.into_iter().map(|(_, value)| value.into_scalar::<f32>());
            (gradients, metrics.collect::<Vec<_>>(), stage.validate(&prior.valid()).unwrap())
        };
        let (whole, losses, validation) = of(1, false);
        for (parts, kernels) in [(2, false), (4, false), (6, false), (1, true)] {
            let (gradients, metrics, ours) = of(parts, kernels);
            crate::gradients::assert_close(&gradients, &whole);
            for (ours, expected) in metrics.iter().zip(&losses) {
                assert!((ours - expected).abs() < 1e-5, "{metrics:?} {losses:?}");
            }
            assert!((ours.loss - validation.loss).abs() < 1e-5, "{ours:?} {validation:?}");
        }
        // Nothing learned: about the logarithm of the number of choices.
        assert!((validation.others[1].1 - 64f64.ln()).abs() < 0.2, "{validation:?}");
    }
}
