//! Footprints, compared with the paper's figures and figures derived from it.

mod common;

use common::config;
use dalle_model::clip::{ClipConfig, TowerConfig};
use dalle_model::config::ModelConfig;
use dalle_model::footprint::{Computed, Footprint, Training};
use dalle_model::precision::Precision;

/// Weight, gradient, running mean and variance, average.
const COPIES: u64 = 5;

#[test]
fn the_footprint_of_the_papers_model_matches_its_figures() {
    let config = config("paper-12b");
    let footprint = Footprint::new(&config);
    assert_eq!(footprint.matrices, 64 * 12 * 3968 * 3968);
    // Always in f32, besides the matrices: biases and gains, embeddings of tokens and positions, and the two heads.
    let d = 3968;
    let embeddings = (16384 + 256 + 256 + 8192 + 32 + 32) * d;
    let rest = (64 * 13 + 2) * d + embeddings + (d + 1) * (16384 + 1 + 8192);
    assert_eq!(footprint.prior, footprint.matrices + rest);
    assert_eq!(footprint.prior_bytes(Precision::Bf16), 2 * footprint.matrices + 4 * rest);
    // Two bytes each for keys and values: 256 slots per layer for the text; for the image 47 · 33 + 16 · 1024 + 166.
    assert_eq!(footprint.cache_bytes(Precision::Bf16, 1, 0), 64 * 256 * 2 * 3968 * 2);
    assert_eq!(footprint.cache_bytes(Precision::Bf16, 0, 1), (47 * 33 + 16 * 1024 + 166) * 2 * 3968 * 2);
    // A step reads the matrices, 13 gains and biases of each layer and two more, and the image's head; of the cache all text, and on
    // average 33, 16 and 61 slots of the image.
    let weights = 2 * footprint.matrices + 4 * ((64 * 13 + 2) * d + (d + 1) * 8192);
    let seen: u64 = 47 * 33 + 16 * 16 + 61;
    let expected = |captions: u64, samples: u64| weights + (64 * 256 * captions + seen * samples) * 2 * d * 2;
    assert_eq!(footprint.step_bytes(Precision::Bf16, 1, 1), expected(1, 1));
    assert_eq!(footprint.step_bytes(Precision::Bf16, 2, 8), expected(2, 8));
    // The largest tensor is the text head.
    assert_eq!(footprint.loading_bytes(), 2 * 4 * d * 16385);
    // The released dVAE has 53.8 and 43.8 million parameters, and a decode takes 308 GFLOP.
    assert_eq!((footprint.encoder / 100_000, footprint.decoder / 100_000), (537, 438));
    assert_eq!((footprint.decode_flops as f64 / 1e9).round(), 308.0);
}

#[test]
fn a_small_model_has_a_small_footprint() {
    let config = config("tiny");
    let footprint = Footprint::new(&config);
    assert!(footprint.sampling(&config, Computed::Burn, Precision::F32, 1, 1) < 1 << 20);
    let dvae = |updates, batch| footprint.training_dvae(&config, updates, batch, COPIES);
    let prior = |updates, batch| footprint.training_prior(&config, updates, batch, COPIES);
    type Predicted<'a> = &'a dyn Fn(Computed, u64) -> Training;
    let networks: [(Predicted<'_>, u64); 2] =
        [(&dvae, footprint.encoder + footprint.decoder), (&prior, footprint.prior)];
    for (training, parameters) in networks {
        let burn = |batch| training(Computed::Burn, batch);
        assert!(burn(8).bytes() < 64 << 20);
        assert!(burn(8).activations == 8 * burn(1).activations);
        assert_eq!(burn(8).state, burn(1).state);
        // The kernels keep the examples of as many threads as there are, whatever the batch.
        let kernels = |threads, batch| training(Computed::Kernels(threads), batch);
        assert_eq!(kernels(2, 8), kernels(2, 512));
        assert_eq!(kernels(4, 8).activations, 4 * kernels(1, 8).activations);
        assert_eq!(kernels(1, 8).activations, kernels(1, 1).activations);
        // A sum of gradients for each thread, and one more.
        assert_eq!(kernels(4, 8).state - kernels(1, 8).state, 4 * 4 * parameters);
    }
}

#[test]
fn training_the_dvae_keeps_the_maps_of_every_block() {
    let config = config("tiny");
    let footprint = Footprint::new(&config);
    // For each block, with an image of 32×32 pixels: cells, input width, output width.
    let encoder = [(1024, 8, 8), (256, 8, 16), (64, 16, 32), (16, 32, 64)];
    let decoder = [(16, 16, 64), (64, 64, 32), (256, 32, 16), (1024, 16, 8)];
    let maps = |&(places, before, behind): &(u64, u64, u64)| {
        let projected = if before == behind { 0 } else { behind };
        places * (before + 6 * behind / 4 + behind + projected)
    };
    let blocks: u64 = encoder.iter().chain(&decoder).map(maps).sum();
    let training = footprint.training_dvae(&config, Computed::Burn, 1, COPIES);
    assert_eq!(training.activations, 4 * (blocks + 8 * 16 * 64 + 30 * 1024));
    assert_eq!(training.state, 4 * 5 * (footprint.encoder + footprint.decoder));
}

#[test]
fn training_vit_b_32_at_its_batch_size_exceeds_a_single_device() {
    // ViT-B/32 with CLIP's vocabulary and length, without start and end tokens.
    let model = ModelConfig { text_vocab: 49_406, text_length: 76, image_size: 224, ..config("tiny") };
    let tower = |width, heads| TowerConfig { width, layers: 12, heads };
    let clip =
        ClipConfig { embedding: 512, patch: 32, text: tower(512, 8), image: tower(768, 12), tokenizer: None };
    clip.validate(&model).unwrap();
    let footprint = Footprint::new(&model);
    let training = |batch| footprint.training_clip(&clip, &model, Computed::Burn, batch, COPIES, false);
    // The released ViT-B/32 has 151,277,313 parameters.
    assert_eq!(training(1).state, 20 * 151_277_313);
    let beside = footprint.training_clip(&clip, &model, Computed::Burn, 1, COPIES, true);
    assert_eq!(beside.state - training(1).state, 4 * (footprint.encoder + footprint.decoder));
    // Every caption is compared with every image.
    let (one, two) = (training(1 << 14).activations, training(1 << 15).activations);
    assert_eq!(two - 2 * one, 4 * 8 * 2 * (1 << 28));
    assert!(two > 2_000_000_000_000, "{two}");
}
