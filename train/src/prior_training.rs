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
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::augment;
use crate::bpe_dropout::BpeDropout;
use crate::data::{Captions, Example};
use crate::schedule::Warmup;
use crate::tokens::encode_pictures;
use crate::training::{Order, Stage};

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub struct PriorSchedule {
    /// Pairs per update.
    pub batch: usize,
    /// Step size.
    pub step_size: Warmup,
    /// Probability that BPE drops a merge (0.1 in the paper).
    pub bpe_dropout: f32,
    /// Share of the pairs whose image tokens are read with noise: see [`blur`].
    pub image_noise: f64,
    /// Seed of everything random.
    pub seed: u64,
}

/// The stage's data and schedule.
pub struct PriorStage {
    pairs: Vec<(Captions, Vec<ImageToken>)>,
    tokenizer: BpeDropout,
    text_length: usize,
    /// The codebook's last entry.
    last_token: u16,
    masks: Masks,
    schedule: PriorSchedule,
    order: Order,
}

impl PriorStage {
    /// A stage over the examples, whose pictures are tokenized once, up front; `device` is the autodiff device to train on.
    ///
    /// # Errors
    /// There are no examples, the tokenizer knows more ids than the model, or the device fails.
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
        let mut rng = ChaCha8Rng::seed_from_u64(schedule.seed);
        let mut pairs = Vec::with_capacity(examples.len());
        let bar = crate::training::bar(examples.len() as u64, "tokenizing pictures");
        for chunk in examples.chunks(16).progress_with(bar) {
            let pictures: Vec<_> = chunk
                .iter()
                .map(|example| augment::for_prior(&example.image, config.image_size as u32, &mut rng))
                .collect();
            let tokens = encode_pictures(encoder, &pictures)?;
            pairs.extend(chunk.iter().map(|example| example.captions.clone()).zip(tokens));
        }
        Ok(Self {
            order: Order::new(schedule.seed, pairs.len()),
            pairs,
            tokenizer: BpeDropout::new(tokenizer.clone(), schedule.bpe_dropout)?,
            text_length: config.text_length,
            last_token: u16::try_from(config.dvae.vocab - 1).unwrap_or(u16::MAX),
            masks: Masks::new(config, device),
            schedule,
        })
    }
}

impl Stage for PriorStage {
    type Network = Prior;

    fn loss(&mut self, prior: &Prior, step: u64) -> Result<(Tensor<1>, Vec<(&'static str, Tensor<1>)>)> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.schedule.seed);
        rng.set_stream(step + 1);
        let (mut captions, mut images, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for index in self.order.batch(step, self.schedule.batch) {
            let (caption, tokens) = &self.pairs[index];
            let caption = caption.sample(&mut rng);
            captions.push(self.tokenizer.encode(&caption, self.text_length - 1, &mut rng)?);
            images.push(tokens.as_slice());
            let noisy = rng.random_bool(self.schedule.image_noise);
            read.push(if noisy { blur(tokens, self.last_token, &mut rng) } else { tokens.clone() });
        }
        let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
        let read: Vec<&[ImageToken]> = read.iter().map(Vec::as_slice).collect();
        let loss = PriorLoss::new(prior.forward(&self.masks, &captions, &read), &captions, &images);
        let total = loss.total();
        Ok((total.clone(), vec![("loss", total), ("text loss", loss.text), ("image loss", loss.image)]))
    }

    fn step_size(&self, step: u64) -> f64 {
        self.schedule.step_size.at(step)
    }
}

/// The tokens with a share of them, uniform from none to all, replaced by random ones.
///
/// On few pictures the prior soon recognizes each by its first tokens and continues from memory, without a look at the caption
/// that is to choose among them when it samples. What it cannot rely on, it does not learn by heart (as the word dropout of
/// arXiv 1511.06349). The paper, with 250 million pairs, needs none.
fn blur(tokens: &[ImageToken], last: u16, rng: &mut impl Rng) -> Vec<ImageToken> {
    let share = rng.random::<f64>();
    let mut replace = |token: &ImageToken| {
        if rng.random_bool(share) { ImageToken(rng.random_range(0..=last)) } else { *token }
    };
    tokens.iter().map(&mut replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_replaces_a_share_of_the_tokens_by_entries_of_the_codebook() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let tokens = vec![ImageToken(3); 256];
        let shares: Vec<f64> = (0..400)
            .map(|_| {
                let read = blur(&tokens, 7, &mut rng);
                assert!(read.iter().all(|token| token.0 <= 7));
                read.iter().filter(|token| token.0 != 3).count() as f64 / 256.0
            })
            .collect();
        // Half of the tokens on average, an eighth of which stay by chance.
        let mean = shares.iter().sum::<f64>() / 400.0;
        assert!((mean - 7.0 / 16.0).abs() < 0.04, "{mean}");
        assert!(shares.iter().any(|&share| share < 0.1) && shares.iter().any(|&share| share > 0.8));
    }
}
