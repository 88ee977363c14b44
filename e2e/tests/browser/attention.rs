//! What the prior attends to in the browser, compared with the same kernels on this machine.

use std::path::Path;

use anyhow::{Result, ensure};
use dalle_files::config::ModelConfig;
use dalle_files::tensors::{InMemory, Tensors, WeightsError};
use dalle_kernels::prior::{PriorSizes, Sampler};
use dalle_kernels::storage::Storage;
use serde_json::{Value, json};

use crate::fixture::host::Host;
use crate::fixture::models;
use crate::fixture::page::Page;

/// Starts a prior worker as the page does, lets it read an image, and returns its reports about attention.
const ATTEND: &str = "
    const { text, image, asked } = arguments[0], base = new URL('model/', location).href;
    return fetch(base + 'manifest.json').then((answer) => answer.json()).then((manifest) => new Promise((done, fail) => {
        const script = document.querySelector('meta[name=worker]').content, answers = [];
        const worker = new Worker(script, { name: 'prior', type: 'module' });
        worker.onerror = (event) => fail(new Error(event.message ?? 'the worker cannot be loaded'));
        const send = (command) => worker.postMessage([JSON.stringify(command), null]);
        worker.onmessage = ({ data: [json] }) => {
            const report = JSON.parse(json);
            if (['failed', 'not_traced'].includes(report.type)) fail(new Error(report.message));
            if (report.type === 'ready') {
                const request = { model: manifest.hash, text, samples: 1, seed: '1', prefix: image };
                send({ type: 'trace', ticket: 1, request });
                asked.forEach(([position, layer]) => send({ type: 'attend', ticket: 1, position, layer }));
            }
            if (report.type === 'attention' && answers.push(report) === asked.length) done(answers);
        };
        send({ type: 'load', base, files: manifest.files });
    }));";

/// The prior of a model folder, on this machine's kernels.
fn native_prior(model: &Path) -> Result<Sampler> {
    let config: ModelConfig = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    let sizes = PriorSizes {
        layers: config.prior.layers,
        heads: config.prior.heads,
        head: config.prior.head_dim,
        conv_kernel: config.prior.conv_kernel,
        text: config.text_length,
        grid: config.geometry().grid,
        text_vocab: config.text_vocab,
        image_vocab: config.dvae.vocab,
    };
    let file = std::fs::read(model.join("model.safetensors"))?;
    let mut source = InMemory::new(&file)?;
    let mut tensors = Tensors::new(&mut source);
    Ok(Sampler::new(sizes, Storage::F32, |parameter| {
        let mut values = Vec::with_capacity(parameter.length());
        tensors.take_into(&parameter.name, &parameter.shape, &mut values)?;
        Ok::<_, WeightsError>(values)
    })?)
}

#[tokio::test]
async fn the_browsers_attention_is_that_of_the_kernels_here() -> Result<()> {
    let host = Host::without_server(&models::tiny()?, "/page").await?;
    let page = Page::open(&format!("{}/page/", host.origin)).await?;
    let (text, image): (Vec<u32>, Vec<u32>) = (vec![5, 90, 17], (0..16).map(|i| i * i % 64).collect());
    let prior = native_prior(&models::tiny()?)?;
    let layers = prior.sizes().layers;
    let asked: Vec<(usize, usize)> =
        [0, 6, 15].into_iter().flat_map(|position| (0..layers).map(move |layer| (position, layer))).collect();
    let answers: Vec<Value> =
        page.browser.js(ATTEND, json!({ "text": text, "image": image, "asked": asked })).await?;
    for ((position, layer), answer) in asked.into_iter().zip(answers) {
        let expected = prior.attention(&text, &image[..position], layer);
        let answer = &answer["attention"];
        assert_eq!(answer["positions"], json!(expected.positions), "{position}, {layer}");
        for (part, expected) in [("text", expected.text), ("image", expected.image)] {
            let weights: Vec<f32> = serde_json::from_value(answer[part].clone())?;
            assert_eq!(weights.len(), expected.len());
            let apart = weights.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            ensure!(apart <= 1e-4, "{part} at position {position}, layer {layer}: {apart} apart");
        }
    }
    Ok(())
}
