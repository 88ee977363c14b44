//! The sampling loop: a job's tokens do not depend on the other jobs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{caption, config, prior};
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, Param};
use dalle_model::burn::tensor::{Tensor, TensorData};
use dalle_model::config::ModelConfig;
use dalle_model::precision::Precision;
use dalle_model::prior::{Masks, Prior};
use dalle_model::sample::{self, Batch, JobKey, NotFinite, SampleError, SampleRequest, continue_caption};
use dalle_model::weights;
use dalle_shared::{ImageToken, SamplingSettings, TextToken};

/// A batch. Its prior is the same in every call.
fn batch(config: &ModelConfig) -> Batch {
    sample::batch(prior(config, &Device::flex()), config)
}

fn request(config: &ModelConfig, seed: u64, samples: usize) -> SampleRequest {
    SampleRequest {
        text: caption(config, seed, 4),
        samples,
        seed,
        sampling: SamplingSettings { temperature: 1.0, top_k: Some(40), top_p: Some(0.95), guidance: 1.0 },
        prefix: Vec::new(),
    }
}

type Images = BTreeMap<JobKey, Vec<Vec<ImageToken>>>;

fn step_into(batch: &mut Batch, images: &mut Images) {
    for output in batch.step().unwrap() {
        let tokens = output.tokens.unwrap();
        let samples = images.entry(output.job).or_insert_with(|| vec![Vec::new(); tokens.len()]);
        for (sample, token) in samples.iter_mut().zip(tokens) {
            assert_eq!(sample.len(), output.position);
            sample.push(token);
        }
    }
}

fn run(batch: &mut Batch) -> Images {
    let mut images = Images::new();
    while !batch.is_empty() {
        step_into(batch, &mut images);
    }
    images
}

#[test]
fn a_batch_of_eight_samples_what_each_job_samples_alone() {
    let config = config("tiny");
    let mut together = batch(&config);
    for seed in 0..8 {
        together.admit(JobKey(seed), request(&config, seed, 1)).unwrap();
    }
    let together = run(&mut together);
    for seed in 0..8 {
        let mut alone = batch(&config);
        alone.admit(JobKey(seed), request(&config, seed, 1)).unwrap();
        assert_eq!(run(&mut alone)[&JobKey(seed)], together[&JobKey(seed)], "seed {seed}");
        assert_eq!(together[&JobKey(seed)][0].len(), config.geometry().image_length());
    }
}

#[test]
fn sample_s_equals_the_first_sample_of_seed_plus_s() {
    let config = config("tiny");
    let mut together = batch(&config);
    let three = request(&config, u64::MAX, 3);
    together.admit(JobKey(0), three.clone()).unwrap();
    let together = run(&mut together).remove(&JobKey(0)).unwrap();
    for (seed, expected) in [u64::MAX, 0, 1].into_iter().zip(together) {
        let mut alone = batch(&config);
        alone.admit(JobKey(0), SampleRequest { seed, samples: 1, ..three.clone() }).unwrap();
        assert_eq!(run(&mut alone)[&JobKey(0)], [expected], "seed {seed}");
    }
}

#[test]
fn jobs_that_join_and_leave_do_not_affect_each_other() {
    let config = config("tiny");
    let mut alone = batch(&config);
    alone.admit(JobKey(0), request(&config, 5, 3)).unwrap();
    let expected = run(&mut alone).remove(&JobKey(0)).unwrap();
    assert_ne!(expected[0], expected[1], "samples of one request differ");

    let mut busy = batch(&config);
    let mut images = Images::new();
    busy.admit(JobKey(1), request(&config, 1, 2)).unwrap();
    (0..3).for_each(|_| step_into(&mut busy, &mut images));
    busy.admit(JobKey(0), request(&config, 5, 3)).unwrap();
    (0..4).for_each(|_| step_into(&mut busy, &mut images));
    busy.remove(JobKey(1));
    assert_eq!(busy.rows(), 3);
    busy.admit(JobKey(2), request(&config, 2, 1)).unwrap();
    while !busy.is_empty() {
        step_into(&mut busy, &mut images);
    }
    assert_eq!(images[&JobKey(0)], expected);
}

#[test]
fn a_prefix_is_returned_unchanged() {
    let config = config("tiny");
    let mut batch = batch(&config);
    let given: Vec<ImageToken> = (0..6).map(ImageToken).collect();
    batch.admit(JobKey(0), SampleRequest { prefix: given.clone(), ..request(&config, 1, 2) }).unwrap();
    for image in &run(&mut batch)[&JobKey(0)] {
        assert_eq!(image[..6], given);
        assert_eq!(image.len(), config.geometry().image_length());
    }
}

#[test]
fn continuing_a_sampled_prefix_gives_the_same_image() {
    let config = config("tiny");
    let mut whole = batch(&config);
    whole.admit(JobKey(0), request(&config, 3, 1)).unwrap();
    let expected = run(&mut whole).remove(&JobKey(0)).unwrap().remove(0);
    for given in [1, 4, 7, expected.len() - 1, expected.len()] {
        let mut batch = batch(&config);
        let prefix = expected[..given].to_vec();
        batch.admit(JobKey(0), SampleRequest { prefix, ..request(&config, 3, 1) }).unwrap();
        assert_eq!(run(&mut batch)[&JobKey(0)][0], expected, "{given} given");
    }
}

#[test]
fn guidance_goes_from_unconditional_through_conditional_logits() {
    let config = config("tiny");
    let sample = |request: &SampleRequest, guidance: f32| {
        let mut batch = batch(&config);
        let sampling = SamplingSettings { guidance, ..request.sampling };
        batch.admit(JobKey(0), SampleRequest { sampling, ..request.clone() }).unwrap();
        assert_eq!(batch.rows(), if guidance == 1.0 { 2 } else { 4 });
        run(&mut batch).remove(&JobKey(0)).unwrap()
    };
    let captioned = request(&config, 2, 2);
    let without = SampleRequest { text: Vec::new(), ..captioned.clone() };
    assert_eq!(sample(&captioned, 0.0), sample(&without, 1.0), "at 0 the caption has no effect");
    assert_eq!(
        sample(&captioned, 1.0 + f32::EPSILON),
        sample(&captioned, 1.0),
        "near 1 it has the effect that it has at 1"
    );
    assert_eq!(sample(&without, 7.0), sample(&without, 1.0), "without a caption guidance has no effect");
    assert_ne!(sample(&captioned, 7.0), sample(&captioned, 1.0));
}

#[test]
fn captions_are_continued_and_end() {
    let config = config("tiny");
    let device = Device::flex();
    let prior = prior(&config, &device);
    let masks = Masks::new(&config, &device);
    let settings = SamplingSettings { temperature: 1.0, ..SamplingSettings::default() };
    let beginning = caption(&config, 1, 3);
    let sample = |seed| continue_caption(&prior, &masks, &beginning, &settings, seed).unwrap();
    let caption = sample(1);
    assert_eq!(caption[..3], beginning);
    assert!(caption.len() < config.text_length);
    assert_eq!(sample(1), caption);
    assert_ne!(sample(2), caption);
    let long = vec![TextToken(0); config.text_length];
    let error = continue_caption(&prior, &masks, &long, &settings, 1).unwrap_err();
    assert_eq!(error.to_string(), "text: expected at most 15 ids, got 16");
}

#[test]
fn requests_out_of_range_are_refused_and_change_nothing() {
    let config = config("tiny");
    let mut batch = batch(&config);
    let good = request(&config, 1, 1);
    let bad = [
        SampleRequest { text: vec![TextToken(0); config.text_length], ..good.clone() },
        SampleRequest { text: vec![TextToken(config.text_vocab as u32)], ..good.clone() },
        SampleRequest { prefix: vec![ImageToken(config.dvae.vocab as u16)], ..good.clone() },
        SampleRequest { prefix: vec![ImageToken(0); config.geometry().image_length() + 1], ..good.clone() },
        SampleRequest { samples: 0, ..good.clone() },
        SampleRequest {
            sampling: SamplingSettings { temperature: f32::NAN, ..good.sampling },
            ..good.clone()
        },
    ];
    for request in bad {
        assert!(matches!(batch.admit(JobKey(0), request), Err(SampleError::Request(_))));
        assert!(batch.is_empty());
    }
    batch.admit(JobKey(0), good).unwrap();
    assert_eq!(run(&mut batch).len(), 1);
}

/// The prior with some values of the parameter `name` replaced.
fn with_values(prior: Prior, name: &str, values: &[(usize, f32)]) -> Prior {
    struct Change<'a> {
        path: Vec<String>,
        name: &'a str,
        values: &'a [(usize, f32)],
        found: bool,
    }
    impl ModuleMapper for Change<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if weights::name(&self.path) != self.name {
                return param;
            }
            self.found = true;
            param.map(|tensor| {
                let (shape, device) = (tensor.dims(), tensor.device());
                let mut all: Vec<f32> = common::values(tensor);
                self.values.iter().for_each(|(index, value)| all[*index] = *value);
                Tensor::from_data(TensorData::new(all, shape), &device)
            })
        }
    }
    let mut change = Change { path: Vec::new(), name, values, found: false };
    let prior = prior.map(&mut change);
    assert!(change.found, "no parameter {name}");
    prior
}

/// Adds jobs whose captions contain the id `poison` to two healthy ones, of which one has all but its last token as prefix.
fn fails_alone(prior: &Prior, config: &ModelConfig, poison: u32) {
    let poisoned = SampleRequest { text: vec![TextToken(poison)], ..request(config, 7, 2) };
    let guided = SampleRequest {
        sampling: SamplingSettings { guidance: 2.0, ..SamplingSettings::default() },
        ..poisoned.clone()
    };
    let others = [
        SampleRequest { text: vec![TextToken(poison + 1)], ..request(config, 1, 3) },
        SampleRequest {
            text: Vec::new(),
            prefix: vec![ImageToken(3); config.geometry().image_length() - 1],
            ..request(config, 2, 1)
        },
    ];
    let new = || sample::batch(prior.clone(), config);
    let alone = others.each_ref().map(|other| {
        let mut batch = new();
        batch.admit(JobKey(0), other.clone()).unwrap();
        run(&mut batch).remove(&JobKey(0)).unwrap()
    });

    let mut batch = new();
    batch.admit(JobKey(0), others[0].clone()).unwrap();
    let mut images = Images::new();
    (0..3).for_each(|_| step_into(&mut batch, &mut images));
    batch.admit(JobKey(8), poisoned).unwrap();
    batch.admit(JobKey(1), others[1].clone()).unwrap();
    batch.admit(JobKey(9), guided).unwrap();
    let (failed, healthy): (Vec<_>, Vec<_>) =
        batch.step().unwrap().into_iter().partition(|output| output.tokens.is_err());
    let failed: Vec<_> = failed.into_iter().map(|output| (output.job, output.tokens)).collect();
    let expected = Err(NotFinite { position: 0 });
    assert_eq!(failed, [(JobKey(8), expected.clone()), (JobKey(9), expected)]);
    assert_eq!(batch.rows(), 3, "the failed jobs and the complete one have left");
    for output in healthy {
        let tokens = output.tokens.unwrap();
        let samples = images.entry(output.job).or_insert_with(|| vec![Vec::new(); tokens.len()]);
        samples.iter_mut().zip(tokens).for_each(|(sample, token)| sample.push(token));
    }
    while !batch.is_empty() {
        step_into(&mut batch, &mut images);
    }
    assert_eq!(alone, [&images[&JobKey(0)], &images[&JobKey(1)]].map(Clone::clone));
}

#[test]
fn a_job_with_non_finite_logits_leaves_and_the_others_are_unaffected() {
    let config = config("tiny");
    let width = config.prior.d_model();
    let poison = 5;
    let first = poison * width;
    let nan: Vec<(usize, f32)> = (first..first + width).map(|index| (index, f32::NAN)).collect();
    let prior = with_values(prior(&config, &Device::flex()), "embed.text", &nan);
    fails_alone(&prior, &config, poison as u32);
}

/// One component of the caption's embedding is so large that its value in the first layer, 5.6 · 15,000, exceeds f16.
#[test]
fn a_job_that_overflows_f16_leaves_and_the_others_are_unaffected() {
    let config = config("tiny");
    let width = config.prior.d_model();
    let poison = 5;
    let prior = with_values(prior(&config, &Device::flex()), "embed.text", &[(poison * width, 1000.0)]);
    let prior = with_values(prior, "blocks.0.qkv.weight", &[(2 * width, 15_000.0)]);
    let mut batch = sample::batch(prior.clone(), &config);
    batch
        .admit(JobKey(0), SampleRequest { text: vec![TextToken(poison as u32)], ..request(&config, 7, 2) })
        .unwrap();
    assert_eq!(run(&mut batch).len(), 1, "f32 can represent it");
    fails_alone(&prior.with_precision(Precision::F16), &config, poison as u32);
}
