//! Why the tokens of an image were chosen: what the prior predicted before each of them.
//!
//! A [`Trace`] reads an image again, token by token, and keeps all logits. [`choices`] ranks what could have come at a position, with
//! any settings.

use dalle_shared::{
    ImageToken, SamplingSettings, TextToken, TokenChoice, TokenChoices, TokenStep, check_prefix, check_text,
};

use crate::choose::{choose, kept};
use crate::error::{NotFinite, SampleError};
use crate::jobs::guided;
use crate::network::Network;
use crate::philox::uniform;

/// An image that is read again.
pub struct Trace<N: Network> {
    network: N,
    /// With the caption, and for guidance without.
    caches: Vec<N::Cache>,
    seed: u64,
    sampling: SamplingSettings,
    tokens: Vec<ImageToken>,
    /// Of each position that has been read.
    logits: Vec<Vec<f32>>,
}

impl<N: Network> Trace<N> {
    /// Begins to read the tokens of an image, all or its first ones, that was sampled with `seed`.
    ///
    /// # Errors
    /// Something is out of range, or the device fails.
    pub fn new(
        network: N,
        text: &[TextToken],
        sampling: SamplingSettings,
        seed: u64,
        tokens: Vec<ImageToken>,
    ) -> Result<Self, SampleError> {
        let geometry = network.geometry();
        check_text(text, &geometry)?;
        check_prefix(&tokens, &geometry)?;
        sampling.validate(geometry.image_vocab)?;
        let mut trace = Self { network, caches: Vec::new(), seed, sampling, tokens, logits: Vec::new() };
        let mut first = Vec::new();
        for text in [text, &[]].into_iter().take(if sampling.is_guided() { 2 } else { 1 }) {
            let (cache, logits) = trace.network.prefill(text, &[], 1)?;
            trace.caches.push(cache);
            first.push(logits);
        }
        trace.keep(&first);
        Ok(trace)
    }

    fn keep(&mut self, logits: &[Vec<f32>]) {
        self.logits.push(match logits {
            [captioned, without] => guided(captioned, without, self.sampling.guidance),
            _ => logits.concat(),
        });
    }

    /// Position of the token that [`step`](Self::step) describes next; None after the last token.
    pub fn position(&self) -> Option<usize> {
        Some(self.logits.len() - 1).filter(|position| *position < self.tokens.len())
    }

    /// How the prior saw the token at [`position`](Self::position). Reads it then.
    ///
    /// # Errors
    /// The device fails, or the logits are not finite.
    ///
    /// # Panics
    /// After the last token.
    pub fn step(&mut self) -> Result<TokenStep, SampleError> {
        let position = self.position().expect("there is a token to read");
        let token = self.tokens[position];
        let step = describe(&self.logits[position], &self.sampling, token, self.uniform(position))
            .ok_or(NotFinite { position })?;
        // After the last token of an image there is nothing to predict.
        if position + 1 < self.network.geometry().image_length() {
            let mut logits = Vec::new();
            for cache in &mut self.caches {
                logits.push(self.network.step(&mut [cache], &[token])?);
            }
            self.keep(&logits);
        } else {
            self.logits.push(Vec::new());
        }
        Ok(step)
    }

    /// What could come at a position that has been reached, with any settings: the `most` likeliest tokens.
    pub fn choices(&self, position: usize, settings: &SamplingSettings, most: usize) -> Option<TokenChoices> {
        let logits = self.logits.get(position).filter(|logits| !logits.is_empty())?;
        choices(logits, settings, self.uniform(position), most)
    }

    fn uniform(&self, position: usize) -> f64 {
        uniform(self.seed, 0, position as u64)
    }
}

/// Probabilities at temperature 1, and their entropy in bits.
fn softmax(logits: &[f32]) -> (Vec<f64>, f64) {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut probabilities: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - f64::from(best)).exp()).collect();
    let total: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|probability| *probability /= total);
    let bits = |p: &f64| if *p > 0.0 { -p * p.log2() } else { 0.0 };
    let entropy = probabilities.iter().map(bits).sum();
    (probabilities, entropy)
}

fn describe(
    logits: &[f32],
    settings: &SamplingSettings,
    token: ImageToken,
    uniform: f64,
) -> Option<TokenStep> {
    let index = usize::from(token.0);
    let sampled = choose(logits, settings, uniform)? == index;
    let (probabilities, entropy) = softmax(logits);
    let own = logits[index];
    let rank = logits.iter().filter(|logit| **logit > own).count();
    Some(TokenStep { probability: probabilities[index], rank, entropy, uniform, sampled })
}

/// The `most` likeliest of the tokens that could come next, before and after the settings. `None` if the logits are not finite.
pub fn choices(
    logits: &[f32],
    settings: &SamplingSettings,
    uniform: f64,
    most: usize,
) -> Option<TokenChoices> {
    let chosen = token(choose(logits, settings, uniform)?);
    let left = kept(logits, settings)?;
    let (before, entropy) = softmax(logits);
    let total: f64 = left.iter().map(|(_, weight)| weight).sum();
    let (mut after, mut from) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
    let mut sum = 0.0;
    for (index, weight) in &left {
        after[*index] = weight / total;
        from[*index] = sum / total;
        sum += weight;
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let choice = |index: usize| TokenChoice {
        token: token(index),
        before: before[index],
        after: after[index],
        from: from[index],
    };
    let likeliest = order.into_iter().take(most).map(choice).collect();
    Some(TokenChoices { likeliest, kept: left.len(), entropy, uniform, chosen })
}

fn token(index: usize) -> ImageToken {
    ImageToken(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(temperature: f32, top_k: Option<usize>) -> SamplingSettings {
        SamplingSettings { temperature, top_k, top_p: None, guidance: 1.0 }
    }

    #[test]
    fn choices_are_probabilities_before_and_after_the_settings() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect();
        let choices = choices(&logits, &settings(1.0, Some(2)), 0.5, 3).unwrap();
        let tokens: Vec<u16> = choices.likeliest.iter().map(|choice| choice.token.0).collect();
        assert_eq!((tokens, choices.kept), (vec![1, 3, 2], 2));
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        for (choice, (before, after, from)) in choices.likeliest.iter().zip([
            (0.4, 4.0 / 7.0, 0.0),
            (0.3, 3.0 / 7.0, 4.0 / 7.0),
            (0.2, 0.0, 0.0),
        ]) {
            close(choice.before, before);
            close(choice.after, after);
            close(choice.from, from);
        }
        let entropy: f64 = [0.1f64, 0.4, 0.2, 0.3].iter().map(|p| -p * p.log2()).sum();
        close(choices.entropy, entropy);
    }

    #[test]
    fn the_random_number_is_in_the_share_of_the_token_that_it_chooses() {
        let logits: Vec<f32> = (0..20).map(|i| (i as f32 * 1.7).sin() * 2.0).collect();
        for settings in [settings(0.5, None), settings(1.0, Some(5)), settings(0.0, None)] {
            for step in 0..100 {
                let uniform = f64::from(step) / 100.0;
                let choices = choices(&logits, &settings, uniform, 20).unwrap();
                let chosen = choices.likeliest.iter().find(|choice| choice.token == choices.chosen).unwrap();
                let share = chosen.from..chosen.from + chosen.after + 1e-12;
                assert!(share.contains(&uniform), "{uniform} {chosen:?}");
                assert_eq!(choose(&logits, &settings, uniform), Some(usize::from(choices.chosen.0)));
            }
        }
    }
}
