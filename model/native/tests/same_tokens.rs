//! The shipped model samples the same tokens with `dalle-kernels` and with Burn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use dalle_model::Device;
use dalle_model::precision::Precision;
use dalle_model::sample::{self, Batch, JobKey, SampleRequest};
use dalle_native::ModelFolder;
use dalle_shared::{ImageToken, SamplingSettings};

fn sample(mut batch: Batch, requests: &[SampleRequest]) -> Vec<Vec<Vec<ImageToken>>> {
    let mut images: Vec<_> = requests.iter().map(|request| vec![Vec::new(); request.samples]).collect();
    for (key, request) in (0..).zip(requests) {
        batch.admit(JobKey(key), request.clone()).unwrap();
    }
    while !batch.is_empty() {
        for output in batch.step().unwrap() {
            let samples = &mut images[output.job.0 as usize];
            samples.iter_mut().zip(output.tokens.unwrap()).for_each(|(image, token)| image.push(token));
        }
    }
    images
}

#[test]
fn the_shipped_model_samples_the_same_tokens_by_the_kernels_as_by_burn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = ModelFolder::open(&root.join("assets/models/drawings-128")).unwrap();
    let prior = folder.prior(&Device::flex(), Precision::F32).unwrap();
    let tokenizer = folder.tokenizer().unwrap();
    let settings = [
        SamplingSettings::default(),
        SamplingSettings { temperature: 1.0, ..SamplingSettings::default() },
        SamplingSettings { guidance: 3.0, ..SamplingSettings::default() },
        SamplingSettings { temperature: 0.9, top_k: Some(50), top_p: Some(0.9), guidance: 1.0 },
    ];
    let captions = ["red apple", "a sailboat", "smiling face with sunglasses", "pizza", "", "blue heart"];
    let mut requests = Vec::new();
    for (index, caption) in captions.iter().enumerate() {
        let text = tokenizer.encode(caption, folder.config.text_length - 1).unwrap().ids;
        for (seed, sampling) in settings.iter().enumerate() {
            let (seed, samples) = (100 * index as u64 + 10 * seed as u64, 1 + index % 3);
            requests.push(SampleRequest {
                text: text.clone(),
                samples,
                seed,
                sampling: *sampling,
                prefix: vec![],
            });
        }
    }
    let expected = sample(sample::batch_on_burn(prior.clone(), &folder.config), &requests);
    // Images are continued, too.
    let continued: Vec<SampleRequest> = requests
        .iter()
        .zip(&expected)
        .step_by(5)
        .map(|(request, images)| SampleRequest { prefix: images[0][..100].to_vec(), ..request.clone() })
        .collect();
    assert_eq!(sample(sample::batch(prior.clone(), &folder.config), &requests), expected);
    let expected = sample(sample::batch_on_burn(prior.clone(), &folder.config), &continued);
    assert_eq!(sample(sample::batch(prior, &folder.config), &continued), expected);
}
