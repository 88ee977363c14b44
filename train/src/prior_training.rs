//! Stage 2: fitting the prior to captions and the tokens of their pictures (section 2.2, appendix B.2).

use anyhow::{Result, ensure};
use dalle_model::Device;
use dalle_model::burn::tensor::Tensor;
use dalle_model::config::ModelConfig;
use dalle_model::dvae::Encoder;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_shared::{ImageToken, TextToken, Tokenizer};
use indicatif::ProgressIterator;
use rand::RngExt;

use dalle_data::{Captions, Example};

use crate::augment;
use crate::bpe_dropout::BpeDropout;
use crate::epoch_order::EpochOrder;
use crate::gradients::Gradients;
use crate::metrics::Metrics;
use crate::progress::bar;
use crate::random::{Purpose, stream};
use crate::schedule::WarmupCosine;
use crate::stage::Stage;
use crate::tokens::encode_pictures;

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub struct PriorSchedule {
    /// Pairs per update.
    pub batch: usize,
    /// Step size.
    pub learning_rate: WarmupCosine,
    /// Probability that BPE drops a merge (0.1 in the paper).
    pub bpe_dropout: f32,
    /// Share of pairs trained without their caption, for classifier-free guidance.
    pub caption_dropout: f32,
    /// Seed of everything random.
    pub seed: u64,
}

/// The stage's data and schedule.
pub struct PriorStage {
    data: PriorData,
    masks: Masks,
    schedule: PriorSchedule,
}

/// Captions and tokens of images, and the order in which they are used.
struct PriorData {
    pairs: Vec<(Captions, Vec<ImageToken>)>,
    tokenizer: BpeDropout,
    text_length: usize,
    schedule: PriorSchedule,
    order: EpochOrder,
}

/// The pairs of an update.
struct PriorBatch {
    /// Ids, or nothing for a pair that is trained without its caption.
    captions: Vec<Option<Vec<TextToken>>>,
    images: Vec<Vec<ImageToken>>,
}

impl PriorData {
    fn batch(&mut self, step: u64) -> Result<PriorBatch> {
        let (mut captions, mut images) = (Vec::new(), Vec::new());
        for turn in self.order.batch(step, self.schedule.batch) {
            let (caption, tokens) = &self.pairs[turn.index];
            let mut rng = stream(self.schedule.seed, Purpose::Caption, turn.number);
            let caption = caption.sample(&mut rng);
            let ids = self.tokenizer.encode(&caption, self.text_length - 1, &mut rng)?;
            captions.push((rng.random::<f32>() >= self.schedule.caption_dropout).then_some(ids));
            images.push(tokens.clone());
        }
        Ok(PriorBatch { captions, images })
    }
}

impl PriorStage {
    /// A stage over the examples, whose images are tokenized once, up front; `device` is the autodiff device to train on.
    ///
    /// # Errors
    /// There are no examples, or the device fails.
    pub fn new(
        examples: &[Example],
        encoder: &Encoder,
        tokenizer: &Tokenizer,
        config: &ModelConfig,
        schedule: PriorSchedule,
        device: &Device,
    ) -> Result<Self> {
        ensure!(!examples.is_empty(), "the dataset holds no picture to train on");
        ensure!(
            tokenizer.vocab_size() <= config.text_vocab,
            "the tokenizer has {} ids, the configuration room for {} (`text_vocab`); train one with --vocab {}",
            tokenizer.vocab_size(),
            config.text_vocab,
            config.text_vocab
        );
        let mut pairs = Vec::with_capacity(examples.len());
        let bar = bar(examples.len() as u64, "tokenizing pictures");
        let numbered: Vec<(u64, &Example)> = (0..).zip(examples).collect();
        for chunk in numbered.chunks(16).progress_with(bar) {
            let images = chunk.iter().map(|&(index, example)| {
                let rng = &mut stream(schedule.seed, Purpose::Tokenization, index);
                augment::for_prior(&example.image, config.image_size as u32, rng)
            });
            let tokens = encode_pictures(encoder, &images.collect::<Vec<_>>())?;
            pairs.extend(chunk.iter().map(|(_, example)| example.captions.clone()).zip(tokens));
        }
        let data = PriorData {
            order: EpochOrder::new(schedule.seed, pairs.len()),
            pairs,
            tokenizer: BpeDropout::new(tokenizer.clone(), schedule.bpe_dropout)?,
            text_length: config.text_length,
            schedule,
        };
        Ok(Self { data, masks: Masks::new(config, device), schedule })
    }
}

impl Stage for PriorStage {
    type Network = Prior;

    fn gradients(&mut self, prior: &Prior, step: u64) -> Result<(Gradients, Metrics)> {
        let batch = self.data.batch(step)?;
        let captions: Vec<Option<&[TextToken]>> = batch.captions.iter().map(Option::as_deref).collect();
        let images: Vec<&[ImageToken]> = batch.images.iter().map(Vec::as_slice).collect();
        let inputs: Vec<&[TextToken]> = captions.iter().map(|caption| caption.unwrap_or_default()).collect();
        let loss = PriorLoss::new(prior.forward(&self.masks, &inputs, &images), &captions, &images);
        let total = loss.total();
        Ok((
            Gradients::of(&total, prior),
            vec![("loss", total), ("text loss", loss.text), ("image loss", loss.image)],
        ))
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.learning_rate.at(step)
    }
}
