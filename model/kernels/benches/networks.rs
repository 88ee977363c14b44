//! Times whole networks on all of rayon's threads (`RAYON_NUM_THREADS`): decoding, encoding, and updates of the dVAE and the prior.
//!
//! `cargo bench -p dalle-kernels --bench networks [-- FILTER]`. Items are the multiplications and additions of plain convolutions.

use std::fmt;

use dalle_kernels::dvae::{Decoder, DvaeNetwork, DvaeSizes, DvaeUpdate, Encoder, ImageNoise};
use dalle_kernels::prior::{Pair, PriorSizes, PriorUpdate};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn values(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i * 7919 % 1000) as f32 * 1e-3 - 0.5).collect()
}

/// A dVAE and the side of its grid of tokens.
#[derive(Clone, Copy)]
struct Model {
    sizes: DvaeSizes,
    grid: usize,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "n_hid {}, {}²", self.sizes.n_hid, 8 * self.grid)
    }
}

/// That of configs/emoji-128.json, and wider ones.
const MODELS: [Model; 3] = [
    Model { sizes: DvaeSizes { n_hid: 24, n_init: 64, blocks_per_group: 2, vocab: 1024 }, grid: 16 },
    Model { sizes: DvaeSizes { n_hid: 32, n_init: 128, blocks_per_group: 2, vocab: 8192 }, grid: 32 },
    Model { sizes: DvaeSizes { n_hid: 64, n_init: 128, blocks_per_group: 2, vocab: 8192 }, grid: 32 },
];

impl Model {
    /// The network, and its parameters.
    fn network(&self) -> (DvaeNetwork, Vec<f32>) {
        let network = DvaeNetwork::new(self.sizes);
        let parameters = values(network.length()).iter().map(|value| 0.05 * value).collect();
        (network, parameters)
    }
}

#[divan::bench(args = MODELS)]
fn decoding(bencher: Bencher, model: Model) {
    let (network, parameters) = model.network();
    let decoder = Decoder::new(model.sizes, &parameters[network.decoder()[0].offset..]);
    let tokens: Vec<u16> = (0..model.grid.pow(2)).map(|i| (i * 31 % model.sizes.vocab) as u16).collect();
    let operations = network.decoding_flops() as usize * tokens.len();
    bencher.counter(ItemsCount::new(operations)).bench_local(|| decoder.decode(&tokens, model.grid));
}

#[divan::bench(args = MODELS)]
fn encoding(bencher: Bencher, model: Model) {
    let (network, parameters) = model.network();
    let encoder = Encoder::new(model.sizes, &parameters[..network.decoder()[0].offset]);
    let side = 8 * model.grid;
    let rgb: Vec<u8> = (0..3 * side * side).map(|i| (i * 7919 % 256) as u8).collect();
    bencher.bench_local(|| encoder.encode(&rgb, side));
}

/// Losses and gradients of the dVAE of configs/emoji-128.json, on all threads.
#[divan::bench(args = [1, 8], sample_count = 20)]
fn dvae_update(bencher: Bencher, batch: usize) {
    let sizes = DvaeSizes { n_hid: 24, n_init: 64, blocks_per_group: 2, vocab: 1024 };
    let mut update = DvaeUpdate::new(sizes, 128, 128);
    let parameters: Vec<f32> = values(update.network().length()).iter().map(|value| 0.05 * value).collect();
    let images: Vec<f32> = values(batch * 3 * 128 * 128).iter().map(|value| 0.5 + 0.5 * value).collect();
    let (mut gradients, keys) = (vec![0.0; parameters.len()], vec![0; batch]);
    let operations = update.network().training_flops() * 256 * batch as u64;
    bencher
        .counter(ItemsCount::new(operations))
        .bench_local(|| update.run(&parameters, &images, ImageNoise::Keys(&keys), 0.5, 2.0, &mut gradients));
}

/// Losses and gradients of the prior of configs/emoji-128.json, on all threads.
#[divan::bench(args = [1, 8], sample_count = 20)]
fn prior_update(bencher: Bencher, batch: usize) {
    let sizes = PriorSizes {
        layers: 6,
        heads: 4,
        head: 32,
        conv_kernel: 11,
        text: 32,
        grid: 16,
        text_vocab: 1024,
        image_vocab: 1024,
    };
    let mut update = PriorUpdate::new(sizes);
    let parameters: Vec<f32> = values(update.network().length()).iter().map(|value| 0.1 * value).collect();
    let mut gradients = vec![0.0; parameters.len()];
    let (input, image) = (vec![3; 31], vec![5; 256]);
    let pairs: Vec<Pair<'_>> =
        (0..batch).map(|_| Pair { input: &input, scored: true, image: &image, seen: &image }).collect();
    bencher.bench_local(|| update.run(&parameters, &pairs, &mut gradients));
}
