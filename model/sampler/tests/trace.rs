//! An image that is read again shows the choices with which it was sampled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use dalle_kernels::parameters::Parameter;
use dalle_kernels::prior::{PriorSizes, Sampler};
use dalle_kernels::storage::Storage;
use dalle_sampler::{Batch, JobKey, SampleRequest, Trace, uniform};
use dalle_shared::{ImageToken, SamplingSettings, TextToken};

const SIZES: PriorSizes = PriorSizes {
    layers: 4,
    heads: 2,
    head: 16,
    conv_kernel: 3,
    text: 6,
    grid: 4,
    text_vocab: 9,
    image_vocab: 32,
};

fn prior() -> Arc<Sampler> {
    let mut position = 0;
    let values = |parameter: &Parameter| {
        let gain = parameter.name.ends_with("gamma");
        let value = |_| {
            position += 1;
            let noise = uniform(5, 2, position) as f32 - 0.5;
            if gain { 1.0 + noise } else { noise }
        };
        Ok::<Vec<f32>, ()>((0..parameter.length()).map(value).collect())
    };
    Arc::new(Sampler::new(SIZES, Storage::F32, values).unwrap())
}

fn sample(prior: &Arc<Sampler>, request: SampleRequest) -> Vec<ImageToken> {
    let mut batch = Batch::new(Arc::clone(prior));
    batch.admit(JobKey(0), request).unwrap();
    let mut tokens = Vec::new();
    while !batch.is_empty() {
        tokens.extend(batch.step().unwrap().into_iter().map(|output| output.tokens.unwrap()[0]));
    }
    tokens
}

#[test]
fn every_sampled_token_is_the_one_that_its_random_number_chooses() {
    let prior = prior();
    let text = [3, 1, 4].map(TextToken).to_vec();
    for guidance in [1.0, 3.0] {
        let sampling = SamplingSettings { temperature: 1.0, guidance, ..SamplingSettings::default() };
        let request = SampleRequest { text: text.clone(), samples: 1, seed: 8, sampling, prefix: Vec::new() };
        let tokens = sample(&prior, request.clone());
        let mut trace = Trace::new(Arc::clone(&prior), &text, sampling, 8, tokens.clone()).unwrap();
        for (position, token) in tokens.iter().enumerate() {
            assert_eq!(trace.position(), Some(position));
            let step = trace.step().unwrap();
            assert!(step.sampled && step.probability > 0.0, "{step:?}");
            let choices = trace.choices(position, &sampling, 32).unwrap();
            assert_eq!((choices.chosen, choices.uniform), (*token, step.uniform));
            assert_eq!(choices.likeliest[step.rank].token, *token);
            let total: f64 = choices.likeliest.iter().map(|choice| choice.after).sum();
            assert!((total - 1.0).abs() < 1e-9);
        }
        assert_eq!(trace.position(), None);

        // Another token at position 5 was not sampled there, and the rest continues from it as from a prefix.
        let mut forced = tokens[..6].to_vec();
        forced[5] = ImageToken((forced[5].0 + 1) % 32);
        let branch = sample(&prior, SampleRequest { prefix: forced.clone(), ..request });
        assert_eq!(branch[..6], forced[..]);
        let mut trace = Trace::new(Arc::clone(&prior), &text, sampling, 8, branch).unwrap();
        let sampled: Vec<bool> = (0..16).map(|_| trace.step().unwrap().sampled).collect();
        assert!(
            !sampled[5] && sampled.iter().enumerate().all(|(position, sampled)| *sampled || position == 5)
        );
    }
}
